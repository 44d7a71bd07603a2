// SPDX-License-Identifier: MIT
#include "fakes/socket_activated.hpp"

#include "core/pidfd.hpp"
#include "core/scm.hpp"
#include "event/priorities.hpp"

#include <sys/epoll.h>
#include <sys/wait.h>

#include <csignal>

namespace thaw::fakes {

Result<std::unique_ptr<SocketActivated>>
SocketActivated::create(EventLoop& loop, const std::string& path, int type, DaemonLaunch launch) {
    std::unique_ptr<SocketActivated> made(new SocketActivated(loop, path, std::move(launch)));
    constexpr int kBacklog = 128;
    THAW_TRY(made->listener_, listen_unix(path, type, kBacklog));
    THAW_TRY(
        made->readable_,
        loop.add_io(
            made->listener_.get(), EPOLLIN, [self = made.get()](std::uint32_t) { self->start(); },
            "socket-activation", priority::kNotify
        )
    );
    return made;
}

SocketActivated::~SocketActivated() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void SocketActivated::start() {
    auto launch = launch_;
    launch.descriptors.emplace_back("socket", listener_.get());
    readable_.enable(false);
    pid_ = launch_daemon(launch);
    ++starts_;
    THAW_INVARIANT(pid_ > 0);
    auto pidfd = pidfd_open(pid_);
    THAW_INVARIANT(pidfd.has_value());
    pidfd_ = std::move(*pidfd);
    auto exited = loop_.add_process_exit(
        pidfd_.get(), [this] { on_exit(); }, "service-exit", priority::kChild
    );
    THAW_INVARIANT(exited.has_value());
    exited_ = std::move(*exited);
}

void SocketActivated::on_exit() {
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
    exited_.reset();
    pidfd_.reset();
    if (!held_) readable_.enable(true);
}

void SocketActivated::kill(int signal) const {
    if (pid_ > 0) ::kill(pid_, signal);
}

void SocketActivated::hold(bool on) {
    held_ = on;
    if (pid_ == 0) readable_.enable(!on);
}

} // namespace thaw::fakes
