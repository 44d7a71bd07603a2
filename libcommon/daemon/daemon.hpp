// SPDX-License-Identifier: MIT
#pragma once

// What every daemon of ours does alike: --help, --version, --log-level=; journal logging; one event
// loop; SIGTERM and SIGINT; watchdog; system bus with LogControl1; the well-known name last, then
// READY=1; STOPPING=1 at the end; ERRNO= and an exit code on failure.

#include "bus/bus.hpp"
#include "event/event.hpp"
#include "systemd/notify.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace thaw {

struct DaemonContext {
    EventLoop& loop;
    Bus& bus;
    std::vector<NamedFd> listen_fds; // sockets and stored descriptors from PID 1, the service's now
};

// The daemon's own part.
class DaemonService {
public:
    virtual ~DaemonService() = default;
    // Exports objects, installs matches, adopts what exists. Must not wait for anybody: the bus
    // name is requested and READY=1 sent right after it.
    virtual Result<> start() = 0;
    // Called once after READY=1.
    virtual void ready() {}
    // SIGTERM: finish what must be finished, then call `finished`. The skeleton exits 0 then.
    // NOLINTNEXTLINE(performance-unnecessary-value-param): overriders keep it
    virtual void stop(std::function<void()> finished) { finished(); }
    virtual std::string status_text() const { return "Ready."; }
};

struct DaemonSpec {
    std::string name;        // "thaw-pagerd"
    std::string description; // for --help
    std::string bus_name;    // "org.thaw.pager1"
    std::function<Result<std::unique_ptr<DaemonService>>(DaemonContext)> create;
};

// Body of main(). Exit codes: 0 stopped on request, 1 failure, 2 bad command line.
int run_daemon(int argc, char** argv, const DaemonSpec& spec);

} // namespace thaw
