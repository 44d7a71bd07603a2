// SPDX-License-Identifier: MIT
#include "rootfs_query.hpp"

#include "core/scm.hpp"
#include "event/priorities.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>
#include <vector>

namespace thaw::restore {

namespace {

// It answers from memory; a caller on the bus waits 25 s.
constexpr Microseconds kPatience = 2 * kUsecPerSec;

Error not_running(Error error) {
    if (error.code() != ENOENT && error.code() != ECONNREFUSED) return error;
    return {
        protocol::rootfs_error::kNotRunning, ENOENT,
        "the server of its root file system is not running"
    };
}

} // namespace

RootfsQuery::RootfsQuery(EventLoop& loop, const std::string& socket_path, Handler handler)
    : loop_(loop), handler_(std::move(handler)) {
    auto asked = ask(socket_path);
    if (asked) return;
    auto soon = loop_.add_defer(
        [this, error = not_running(std::move(asked).error())] { finish(std::unexpected(error)); },
        "rootfs-query-failed", priority::kBus
    );
    THAW_INVARIANT(soon.has_value());
    deadline_ = std::move(*soon);
}

Result<> RootfsQuery::ask(const std::string& socket_path) {
    THAW_TRY(socket_, connect_unix(socket_path, SOCK_SEQPACKET, true));
    THAW_CHECK(protocol::send_rootfs(
        socket_.get(), protocol::encode_rootfs_request(protocol::RootfsType::Status)
    ));
    THAW_TRY(
        readable_, loop_.add_io(
                       socket_.get(), EPOLLIN, [this](std::uint32_t) { on_answer(); },
                       "rootfs-query", priority::kBus
                   )
    );
    THAW_TRY(
        deadline_,
        loop_.add_timer(
            kPatience,
            [this] { finish(fail(ETIMEDOUT, "the server of its root file system is silent")); },
            "rootfs-query-deadline", priority::kTimer
        )
    );
    return {};
}

void RootfsQuery::on_answer() {
    auto answer = read_answer();
    if (!answer && answer.error().code() == EAGAIN) return;
    finish(std::move(answer));
}

Result<protocol::RootfsStatus> RootfsQuery::read_answer() {
    std::vector<std::byte> data(protocol::kRootfsMaxMessage);
    THAW_TRY(auto received, receive_message(socket_.get(), data, protocol::kRootfsMaxFds));
    if (received.end_of_stream)
        return fail(ECONNRESET, "the server of its root file system closed the connection");
    if (received.data_truncated || received.control_truncated)
        return fail(EBADMSG, "the answer about its root file system is too long");
    data.resize(received.size);
    return protocol::decode_status_reply(data, std::move(received.fds));
}

void RootfsQuery::finish(Result<protocol::RootfsStatus> result) {
    readable_ = {};
    deadline_ = {};
    const auto handler = std::move(handler_);
    handler(std::move(result)); // `this` may be gone
}

} // namespace thaw::restore
