// SPDX-License-Identifier: MIT
#pragma once

// One worker: its process (a child of ours, or one that outlived an earlier broker) and the control
// socket to it. The process is known by pidfd alone; it is over when the pidfd says so.

#include "core/fd.hpp"
#include "event/event.hpp"
#include "protocol/worker_control.hpp"

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

namespace thaw::pagerd {

class WorkerProcess {
public:
    struct Events {
        // Gone for certain; `how` is for people ("killed by signal 9"). Last call.
        std::function<void(std::string how)> exited;
        std::function<void(protocol::ControlMessage)> message;
    };

    // Forks and executes `program` with its control socket as descriptor 3; later brokers are found
    // at `control_path`. The child has no other
    // descriptor of ours, default signals, an empty signal mask.
    static Result<std::unique_ptr<WorkerProcess>> spawn(
        EventLoop& loop, const std::string& program, const std::string& control_path, Events events
    );
    // A process that another broker started. `channel` may be invalid: it may dial in later.
    static Result<std::unique_ptr<WorkerProcess>>
    adopt(EventLoop& loop, Fd pidfd, pid_t pid, Fd channel, Events events);

    pid_t pid() const { return pid_; }
    int pidfd() const { return pidfd_.get(); }
    // Who hears of it from now on.
    void set_events(Events events) { events_ = std::move(events); }
    // Replaces the control socket.
    Result<> attach_channel(Fd channel);
    // EAGAIN/EPIPE: the worker does not listen; whoever sent decides.
    Result<> send(const protocol::EncodedMessage& message);
    // SIGKILL by pidfd; exited() follows.
    void kill();

private:
    WorkerProcess(EventLoop& loop, Fd pidfd, pid_t pid, bool is_child, Events events);
    Result<> watch();
    void on_exit();
    void on_channel();
    std::string reap();

    EventLoop& loop_;
    Fd pidfd_;
    pid_t pid_;
    bool is_child_;
    Events events_;
    Fd channel_;
    EventSource exit_source_;
    EventSource channel_source_;
};

} // namespace thaw::pagerd
