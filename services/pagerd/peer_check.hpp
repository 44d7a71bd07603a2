// SPDX-License-Identifier: MIT
#pragma once

// Proof that the process at the other end of a connection belongs to a unit: its pidfd from the
// socket, its unit from systemd (ProtectProc= hides /proc/PID/cgroup from us), and then the pidfd
// must still be alive, so that the pid that was asked about was not recycled meanwhile.
//
// While systemd does not answer (it re-executes, the bus is busy) it is asked again; whoever made
// the check bounds it in time.

#include "core/pidfd.hpp"
#include "systemd/manager_client.hpp"

#include <functional>
#include <memory>
#include <string>

namespace thaw::pagerd {

class PeerCheck {
public:
    // Never from inside begin(). PeerMismatch for a process of another unit or one that is gone.
    using Handler = std::function<void(Result<Peer>)>;
    // Error (PeerMismatch) when the peer is gone already.
    static Result<std::unique_ptr<PeerCheck>> begin(
        EventLoop& loop, SystemdClient& systemd, int connection, const std::string& unit,
        Handler handler
    );

private:
    PeerCheck(
        EventLoop& loop, SystemdClient& systemd, Peer peer, std::string unit, Handler handler
    );
    void ask();
    void on_unit(Result<std::string> unit);
    Result<Peer> judge(const Result<std::string>& unit);

    EventLoop& loop_;
    SystemdClient& systemd_;
    Peer peer_;
    std::string unit_;
    Handler handler_;
    SystemdHandle question_;
    EventSource retry_;
};

} // namespace thaw::pagerd
