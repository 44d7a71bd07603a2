// SPDX-License-Identifier: MIT
#pragma once

// The control socket: workers that lost their broker dial in here, and their connecting starts a
// dead one (thaw-pagerd.socket). Only processes of our own uid are heard, and only once they have
// said Hello.

#include "core/pidfd.hpp"
#include "event/event.hpp"
#include "protocol/worker_control.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace thaw::pagerd {

class ControlSocket {
public:
    using HelloHandler = std::function<void(protocol::HelloMessage hello, Fd channel, Peer peer)>;
    // `listener` comes from systemd; invalid: one is made at `path`.
    static Result<std::unique_ptr<ControlSocket>>
    open(EventLoop& loop, Fd listener, const std::string& path, HelloHandler handler);

private:
    struct Caller {
        Fd channel;
        Peer peer;
        EventSource readable;
        EventSource deadline;
    };
    ControlSocket(EventLoop& loop, Fd listener, HelloHandler handler);
    void on_connection();
    Result<> add_caller(Fd channel);
    void on_readable(std::uint64_t id);

    EventLoop& loop_;
    Fd listener_;
    HelloHandler handler_;
    EventSource accept_source_;
    std::uint64_t next_id_ = 0;
    std::map<std::uint64_t, Caller> callers_; // connected, have not said Hello yet
};

} // namespace thaw::pagerd
