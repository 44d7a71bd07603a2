// SPDX-License-Identifier: MIT
#pragma once

// A socket and a service of ours as PID 1 runs them: a connection starts the service, and so does
// the next one after its end.

#include "core/fd.hpp"
#include "event/event.hpp"
#include "fakes/daemon_launch.hpp"

#include <sys/types.h>

#include <memory>
#include <string>

namespace thaw::fakes {

class SocketActivated {
public:
    // `launch` has everything but the listening descriptor; `type` is SOCK_SEQPACKET or
    // SOCK_STREAM.
    static Result<std::unique_ptr<SocketActivated>>
    create(EventLoop& loop, const std::string& path, int type, DaemonLaunch launch);
    // Kills the service.
    ~SocketActivated();

    const std::string& path() const { return path_; }
    pid_t pid() const { return pid_; } // 0: not running
    unsigned starts() const { return starts_; }
    void kill(int signal) const;
    // No further start; what connects waits.
    void hold(bool on);

private:
    SocketActivated(EventLoop& loop, std::string path, DaemonLaunch launch)
        : loop_(loop), path_(std::move(path)), launch_(std::move(launch)) {}
    void start();
    void on_exit();

    EventLoop& loop_;
    std::string path_;
    DaemonLaunch launch_;
    Fd listener_;
    EventSource readable_;
    Fd pidfd_;
    EventSource exited_;
    pid_t pid_ = 0;
    unsigned starts_ = 0;
    bool held_ = false;
};

} // namespace thaw::fakes
