// SPDX-License-Identifier: MIT
#include "protocol/rootfs_client.hpp"

#include "core/names.hpp"
#include "core/scm.hpp"

#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <filesystem>

namespace thaw::protocol {

namespace {

Result<> set_timeouts(int socket, Microseconds timeout) {
    const timeval wait{
        .tv_sec = static_cast<time_t>(timeout / kUsecPerSec),
        .tv_usec = static_cast<suseconds_t>(timeout % kUsecPerSec),
    };
    for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
        if (setsockopt(socket, SOL_SOCKET, option, &wait, sizeof wait) < 0)
            return fail_errno(errno, "set the time limit of a socket");
    return {};
}

// A blocking socket says EAGAIN when its time is over.
Error as_timeout(Error error) {
    if (error.code() != EAGAIN) return error;
    return {ETIMEDOUT, "the overlay does not answer"};
}

} // namespace

std::string rootfs_control_socket(std::string_view vm, std::string_view root) {
    return fmt::format("{}/{}/control", root, vm);
}

Result<std::vector<std::string>> list_rootfs(const std::string& root) {
    std::error_code error;
    std::filesystem::directory_iterator folder(root, error);
    if (error == std::errc::no_such_file_or_directory) return std::vector<std::string>{};
    std::vector<std::string> names;
    for (; !error && folder != std::filesystem::directory_iterator(); folder.increment(error)) {
        const std::string name = folder->path().filename();
        if (is_valid_vm_name(name)) names.push_back(name);
    }
    if (error) return fail_errno(error.value(), "list {}", root);
    std::ranges::sort(names);
    return names;
}

Result<RootfsClient> RootfsClient::connect(const std::string& path, Microseconds timeout) {
    // Non-blocking: connect() waits while the backlog is full, for as long as that takes.
    auto socket = connect_unix(path, SOCK_SEQPACKET, true);
    if (!socket) {
        const int code = socket.error().code();
        Error error = code == EAGAIN ? Error(ETIMEDOUT, "the overlay does not answer")
                                     : std::move(socket).error();
        if (code == ENOENT || code == ECONNREFUSED)
            return std::unexpected(std::move(error).with_bus_name(rootfs_error::kNotRunning));
        return std::unexpected(std::move(error));
    }
    THAW_CHECK(set_nonblocking(socket->get(), false));
    THAW_CHECK(set_timeouts(socket->get(), timeout));
    return RootfsClient(std::move(*socket));
}

Result<RootfsClient::Answer> RootfsClient::ask(RootfsType request) {
    if (auto sent = send_rootfs(socket_.get(), encode_rootfs_request(request)); !sent)
        return std::unexpected(as_timeout(std::move(sent).error()));
    Answer answer;
    answer.data.resize(kRootfsMaxMessage);
    auto received = receive_message(socket_.get(), answer.data, kRootfsMaxFds);
    if (!received) return std::unexpected(as_timeout(std::move(received).error()));
    if (received->end_of_stream) return fail(ECONNRESET, "the overlay closed the connection");
    if (received->data_truncated || received->control_truncated)
        return fail(EBADMSG, "rootfs message is too long");
    answer.data.resize(received->size);
    answer.fds = std::move(received->fds);
    return answer;
}

Result<RootfsStatus> RootfsClient::status() {
    THAW_TRY(Answer answer, ask(RootfsType::Status));
    return decode_status_reply(answer.data, std::move(answer.fds));
}

Result<PointReply> RootfsClient::point() {
    THAW_TRY(Answer answer, ask(RootfsType::Point));
    return decode_point_reply(answer.data, std::move(answer.fds));
}

} // namespace thaw::protocol
