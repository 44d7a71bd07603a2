// SPDX-License-Identifier: MIT
#pragma once

// Starts socket and daemon of a share and proves that they are what was asked for: the daemon's
// limits and source are read back, and it has said that it waits for its client (or has at least
// outlived `SettleSec=`). The same way at the first start and at every restart.

#include "context.hpp"
#include "log_watch.hpp"
#include "source.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace thaw::sharesd {

class ShareBringUp {
public:
    struct Up {
        pid_t main_pid = 0;
        std::string invocation;  // of the unit
        std::uint64_t limit = 0; // what the daemon really has
        bool degraded = false;
    };
    using Done = std::function<void(Result<Up>)>;
    // `record` and `source` must outlive the object; without a `source` it is not compared. `done`
    // never runs from inside the constructor; it may destroy the object.
    ShareBringUp(const Context& context, const Record& record, const Source* source, Done done);

    // What the unit said meanwhile, perhaps by a daemon that ended before.
    void on_log(const LogLine& line);
    const std::vector<LogLine>& heard() const { return heard_; }

private:
    void reset();
    void start();
    void on_job(Result<std::string> result);
    void on_job_failed(std::string_view result);
    void on_unit(const UnitState& unit);
    Result<> check_daemon(pid_t main_pid);
    void settle(Microseconds left);
    void confirm();
    bool waits() const;
    void died(const UnitState& unit);
    std::string last_error(const UnitState& unit) const;
    void finish(Result<Up> result);
    void read(void (ShareBringUp::*then)(const UnitState&));
    void arm(Microseconds delay, std::function<void()> then);

    const Context& context_;
    const Record& record_;
    const Source* source_;
    Done done_;
    std::string service_;
    std::string socket_;
    Up up_;
    std::vector<LogLine> heard_;
    EventSource deadline_;
    EventSource timer_;
    SystemdHandle systemd_;
};

} // namespace thaw::sharesd
