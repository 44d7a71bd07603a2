// SPDX-License-Identifier: MIT
#include "systemd/notify.hpp"

#include "event/priorities.hpp"

#include <systemd/sd-daemon.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace thaw {

namespace {

// A line break would start the next assignment.
std::string one_line(std::string_view text) {
    std::string line(text);
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
}

bool is_store_name(std::string_view name) {
    return !name.empty() && name.size() <= 255 && std::all_of(name.begin(), name.end(), [](char c) {
        return c > ' ' && c < 0x7f && c != ':';
    });
}

} // namespace

void notify_ready(std::string_view status) {
    (void)sd_notify(0, fmt::format("READY=1\nSTATUS={}", one_line(status)).c_str());
}

void notify_status(std::string_view status) {
    (void)sd_notify(0, fmt::format("STATUS={}", one_line(status)).c_str());
}

void notify_stopping() {
    (void)sd_notify(0, "STOPPING=1\nSTATUS=Stopping.");
}

void notify_failure(int errno_value, std::string_view status) {
    (void)sd_notify(0, fmt::format("ERRNO={}\nSTATUS={}", errno_value, one_line(status)).c_str());
}

Result<std::vector<NamedFd>> take_listen_fds() {
    char** names = nullptr;
    const int count = sd_listen_fds_with_names(1, &names);
    if (count < 0) return fail_errno(-count, "take descriptors from systemd");
    std::vector<NamedFd> fds;
    fds.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
        fds.push_back({names[i], Fd(SD_LISTEN_FDS_START + i)});
        free(names[i]);
    }
    free(static_cast<void*>(names));
    return fds;
}

Result<> FdStore::push(const std::string& name, int fd) {
    if (!is_store_name(name)) return fail(EINVAL, "bad descriptor name '{}'", name);
    if (held_ >= capacity_) return fail(ENOSPC, "descriptor store is full ({})", capacity_);
    // FDPOLL=0: systemd would drop a userfaultfd or a hung-up socket as soon as it polls EPOLLHUP.
    const auto message = fmt::format("FDSTORE=1\nFDNAME={}\nFDPOLL=0", name);
    const int r = sd_pid_notify_with_fds(0, 0, message.c_str(), &fd, 1);
    if (r < 0) return fail_errno(-r, "store descriptor {}", name);
    if (r > 0) ++held_;
    return {};
}

void FdStore::remove(const std::string& name, std::size_t count) {
    (void)sd_notify(0, fmt::format("FDSTOREREMOVE=1\nFDNAME={}", name).c_str());
    held_ -= std::min(held_, count);
}

Result<std::unique_ptr<NotifyBarrier>>
NotifyBarrier::send(EventLoop& loop, Microseconds timeout, std::function<void(Result<>)> handler) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return fail_errno(errno, "make pipe");
    auto barrier = std::make_unique<NotifyBarrier>();
    barrier->handler_ = std::move(handler);
    barrier->read_end_ = Fd(ends[0]);
    // Our copy is closed on return: the pipe hangs up once systemd has closed its own, or at once
    // when there is no systemd to send it to.
    const Fd write_end(ends[1]);
    const int sent = write_end.get();
    const int r = sd_pid_notify_with_fds(0, 0, "BARRIER=1", &sent, 1);
    if (r < 0) return fail_errno(-r, "send barrier");

    auto* self = barrier.get();
    THAW_TRY(
        barrier->closed_, loop.add_io(
                              ends[0], 0, [self](std::uint32_t) { self->finish({}); },
                              "notify-barrier", priority::kNotify
                          )
    );
    THAW_TRY(
        barrier->deadline_,
        loop.add_timer(
            timeout, [self] { self->finish(fail(ETIMEDOUT, "systemd did not pass the barrier")); },
            "notify-barrier-deadline", priority::kTimer
        )
    );
    return barrier;
}

void NotifyBarrier::finish(Result<> result) {
    closed_.enable(false);
    deadline_.enable(false);
    // The handler may destroy us: nothing after this line touches members.
    auto handler = std::exchange(handler_, nullptr);
    handler(std::move(result));
}

} // namespace thaw
