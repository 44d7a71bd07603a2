// SPDX-License-Identifier: MIT
#pragma once

// Takes away all of a share: socket and daemon are stopped (10 s), else the daemon is killed (5 s
// more), else nothing further is touched; then settings, the socket's folder and the record go.
// Content when there is nothing to do, so that it can be repeated.

#include "context.hpp"

#include <functional>
#include <string>

namespace thaw::sharesd {

class ShareTeardown {
public:
    // StopFailed: the daemon lives and so does everything else. Other shortcomings are logged.
    using Done = std::function<void(Result<>)>;
    // `done` never runs from inside the constructor; it may destroy the object.
    ShareTeardown(const Context& context, std::string vm, std::string tag, Done done);

private:
    void stop_units();
    void check();
    void kill_daemon();
    void give_up();
    void finish();
    void arm(Microseconds delay, void (ShareTeardown::*then)());
    void remove_files();

    const Context& context_;
    std::string vm_;
    std::string tag_;
    std::string service_;
    std::string socket_;
    Done done_;
    unsigned waiting_ = 0;
    bool killed_ = false;
    EventSource timer_;
    SystemdHandle service_job_;
    SystemdHandle socket_job_;
    SystemdHandle watch_;
};

} // namespace thaw::sharesd
