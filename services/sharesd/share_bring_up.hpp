// SPDX-License-Identifier: MIT
#pragma once

// Starts socket and daemon of a share and proves that they are what was asked for: the daemon's
// limits and source are read back, and it has said that it waits for its client (or has at least
// outlived `SettleSec=`). The same way at the first start and at every restart.

#include "context.hpp"
#include "exit_class.hpp"
#include "source.hpp"

#include <functional>
#include <optional>
#include <string>

namespace thaw::sharesd {

class ShareBringUp {
public:
    struct Up {
        pid_t main_pid = 0;
        std::uint64_t limit = 0; // what the daemon really has
        bool degraded = false;
    };
    using Done = std::function<void(Result<Up>)>;
    // `record` and `source` must outlive the object; without a `source` it is not compared. `done`
    // never runs from inside the constructor; it may destroy the object.
    ShareBringUp(const Context& context, const Record& record, const Source* source, Done done);

    // What the daemon said meanwhile.
    void on_log(LogHint hint, const std::string& line);

private:
    void reset();
    void start();
    void on_job(Result<std::string> result);
    void on_job_failed(std::string_view result);
    void on_unit(const UnitState& unit);
    Result<> check_daemon(pid_t main_pid);
    void settle(Microseconds left);
    void confirm();
    void died(const UnitState& unit);
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
    bool waits_ = false; // it said that it waits for its client
    std::string last_error_;
    EventSource deadline_;
    EventSource timer_;
    SystemdHandle systemd_;
};

} // namespace thaw::sharesd
