// SPDX-License-Identifier: MIT
// thaw-nbd: the root file system of a VM as a block device, for a VMM that speaks no NBD. Holds
// /dev/nbdN as long as it runs, and makes a node for it by the VM's name.
#include "attachment.hpp"
#include "build_config.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "core/rootfs_names.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "protocol/rootfs_client.hpp"
#include "systemd/notify.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <csignal>
#include <cstdlib>
#include <string_view>

namespace {

using namespace thaw; // NOLINT(google-build-using-namespace): nobody includes this

constexpr int kExitUsage = 2;
constexpr time_t kHandshakeSeconds = 10;
constexpr mode_t kFolderMode = 0700;
constexpr mode_t kNodeMode = 0660;

// 0: none. In the kernel's hands one that passes would be the end of the connection.
Result<> limit_waiting(const Fd& socket, time_t seconds) {
    const timeval limit{.tv_sec = seconds, .tv_usec = 0};
    for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
        if (::setsockopt(socket.get(), SOL_SOCKET, option, &limit, sizeof limit) < 0)
            return fail_errno(errno, "set a socket's time limit");
    return {};
}

Result<Fd> connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return fail(ENAMETOOLONG, "{}", path);
    path.copy(address.sun_path, path.size());
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return fail_errno(errno, "socket");
    THAW_CHECK(limit_waiting(socket, kHandshakeSeconds));
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
        return fail_errno(errno, "connect to {}", path);
    return socket;
}

// Its name is known before the device is. The folder is root's, the node the group's: each VM's
// unit has its own bound to where the snapshot names the drive, and reaches no other.
Result<> make_node(const std::string& vm, const nbd::Device& device) {
    THAW_TRY(const auto number, device.device_number());
    const auto path = paths::rootfs_device(vm);
    THAW_CHECK(make_directories(paths::kDevices, kFolderMode));
    THAW_CHECK(remove_if_exists(path));
    if (::mknod(path.c_str(), S_IFBLK | kNodeMode, number) < 0)
        return fail_errno(errno, "make {}", path);
    return {};
}

// An ephemeral overlay goes with its VM: what is not yet written to it never need be. One that
// cannot be asked may be durable.
bool is_durable(const std::string& vm) {
    auto client = protocol::RootfsClient::connect(protocol::rootfs_control_socket(vm));
    if (!client) return true;
    const auto status = client->status();
    return !status || status->durable;
}

Result<std::unique_ptr<nbd::Attachment>> attach(const std::string& vm) {
    THAW_TRY(auto socket, connect_to(paths::rootfs_directory(vm) + "/nbd.sock"));
    THAW_TRY(const auto what, nbd::shake_hands(socket.get()));
    THAW_CHECK(limit_waiting(socket, 0));
    THAW_TRY(auto attachment, nbd::Attachment::start(std::move(socket), what));
    THAW_CHECK(make_node(vm, attachment->device()));
    return attachment;
}

LogFields fields_of(const std::string& vm) {
    return {{"THAW_INSTANCE", vm}, {"OBJECT_SYSTEMD_UNIT", vmm_unit(vm)}};
}

Result<> detach(const std::string& vm, nbd::Attachment& attachment, bool durable) {
    notify_stopping();
    Result<> synced;
    if (durable) synced = attachment.device().sync();
    if (!synced)
        log_event(
            LogLevel::Error, message_id::kRootfsFailed, fields_of(vm),
            "what {} wrote last is lost: {}", vm, synced.error().message()
        );
    const auto removed = remove_if_exists(paths::rootfs_device(vm));
    attachment.end();
    const auto finished = attachment.finish();
    if (!synced) return synced;
    return finished ? removed : finished;
}

Result<> hold(const std::string& vm) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, nullptr);
    const Fd signals(::signalfd(-1, &stop, SFD_CLOEXEC));
    if (!signals) return fail_errno(errno, "signalfd");

    auto attached = attach(vm);
    if (!attached) {
        log_event(
            LogLevel::Error, message_id::kRootfsNotAttached, fields_of(vm),
            "no block device for the root file system of {}: {}", vm, attached.error().message()
        );
        return std::unexpected(std::move(attached).error());
    }
    auto& attachment = **attached;
    const bool durable = is_durable(vm);
    const auto& path = attachment.device().path();
    log_info(fields_of(vm), "the root file system of {} is {}", vm, path);
    notify_ready("Attached to " + path);

    pollfd news[] = {
        {.fd = signals.get(), .events = POLLIN, .revents = 0},
        {.fd = attachment.ended(), .events = POLLIN, .revents = 0},
    };
    while (::poll(news, std::size(news), -1) < 0)
        if (errno != EINTR) return fail_errno(errno, "poll");
    if (news[1].revents == 0) return detach(vm, attachment, durable);
    const auto finished = attachment.finish();
    const auto why = finished ? "its server is gone" : finished.error().message();
    log_event(
        LogLevel::Error, message_id::kRootfsDetached, fields_of(vm),
        "the root file system of {} is detached from {}: {}", vm, path, why
    );
    return fail(EIO, "{}", why);
}

} // namespace

int main(int argc, char** argv) {
    const std::string_view word = argc == 2 ? argv[1] : "";
    if (word == "--version") {
        fmt::print("thaw-nbd {}\n", THAW_VERSION);
        return EXIT_SUCCESS;
    }
    if (!is_valid_vm_name(word)) {
        const bool help = word == "--help";
        fmt::print(
            help ? stdout : stderr,
            "thaw-nbd VM\n\nAttaches the root file system of a VM to /dev/nbdN until SIGTERM. "
            "Started by\nthaw-nbd@VM.service, see thaw-rootfs(8).\n"
        );
        return help ? EXIT_SUCCESS : kExitUsage;
    }
    log_init("thaw-nbd");
    const auto held = hold(std::string(word));
    if (held) return EXIT_SUCCESS;
    notify_failure(held.error().code(), held.error().message());
    return EXIT_FAILURE;
}
