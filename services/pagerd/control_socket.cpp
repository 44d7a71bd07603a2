// SPDX-License-Identifier: MIT
#include "control_socket.hpp"

#include "core/scm.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

namespace thaw::pagerd {

namespace {
constexpr int kBacklog = 4096;
// A worker says Hello right after connecting.
constexpr Microseconds kHelloTimeout = 5 * kUsecPerSec;
} // namespace

ControlSocket::ControlSocket(EventLoop& loop, Fd listener, HelloHandler handler)
    : loop_(loop), listener_(std::move(listener)), handler_(std::move(handler)) {}

Result<std::unique_ptr<ControlSocket>>
ControlSocket::open(EventLoop& loop, Fd listener, const std::string& path, HelloHandler handler) {
    if (!listener) {
        THAW_TRY(listener, listen_unix(path, SOCK_SEQPACKET, kBacklog));
    }
    THAW_CHECK(set_nonblocking(listener.get(), true));
    std::unique_ptr<ControlSocket> control(
        new ControlSocket(loop, std::move(listener), std::move(handler))
    );
    THAW_TRY(
        control->accept_source_,
        loop.add_io(
            control->listener_.get(), EPOLLIN,
            [self = control.get()](std::uint32_t) { self->on_connection(); }, "control-socket",
            priority::kVital
        )
    );
    return control;
}

void ControlSocket::on_connection() {
    Fd channel(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!channel) return; // EAGAIN, ECONNABORTED: the caller went away
    if (auto added = add_caller(std::move(channel)); !added)
        log_warning("control connection refused: {}", added.error().message());
}

Result<> ControlSocket::add_caller(Fd channel) {
    Caller caller;
    THAW_TRY(caller.peer, socket_peer(channel.get()));
    if (caller.peer.uid != ::geteuid())
        return fail(EPERM, "process {} has uid {}", caller.peer.pid, caller.peer.uid);
    const auto id = next_id_++;
    THAW_TRY(
        caller.readable, loop_.add_io(
                             channel.get(), EPOLLIN, [this, id](std::uint32_t) { on_readable(id); },
                             "control-hello", priority::kVital
                         )
    );
    THAW_TRY(
        caller.deadline, loop_.add_timer(
                             kHelloTimeout, [this, id] { callers_.erase(id); },
                             "control-hello-deadline", priority::kTimer
                         )
    );
    caller.channel = std::move(channel);
    callers_.emplace(id, std::move(caller));
    return {};
}

void ControlSocket::on_readable(std::uint64_t id) {
    const auto found = callers_.find(id);
    if (found == callers_.end()) return;
    auto message = protocol::receive_control(found->second.channel.get());
    if (!message && message.error().code() == EAGAIN) return;
    auto caller = std::move(found->second);
    caller.readable.reset();
    callers_.erase(found);
    if (!message) {
        log_warning("process {} dialed in: {}", caller.peer.pid, message.error().message());
        return;
    }
    if (message->type != protocol::ControlType::Hello) {
        log_warning("process {} dialed in and did not say Hello", caller.peer.pid);
        return;
    }
    handler_(std::move(message->hello), std::move(caller.channel), std::move(caller.peer));
}

} // namespace thaw::pagerd
