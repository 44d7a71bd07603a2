// SPDX-License-Identifier: MIT
#pragma once

// Takes away what a restore has made, in undo_order(): the VM's unit is stopped (10 s), else killed
// (5 s more), else nothing further is touched; then session, shares, root file system, drop-in and
// ticket go. Every part is content when there is nothing to do, so that it can be repeated.

#include "context.hpp"
#include "restore_plan.hpp"
#include "vm_fields.hpp"

#include <functional>
#include <string>
#include <vector>

namespace thaw::restore {

class Teardown {
public:
    // StopFailed: the unit lives and so does everything else. Other shortcomings are logged.
    using Done = std::function<void(Result<>)>;
    // `done` never runs from inside the constructor; it may destroy the object.
    Teardown(const Context& context, std::string vm, const Made& made, Done done);

private:
    void next();
    void stop_unit();
    void on_stop_job(Result<std::string> result);
    void kill_unit();
    void on_killed(const UnitState& unit);
    void close_session();
    void remove_shares();
    void stop_rootfs();
    void forget_rootfs(std::size_t at);
    void release_base();
    void remove_settings();
    void remove_ticket();
    LogFields fields() const { return vm_fields(vm_); }
    void arm(Microseconds delay, void (Teardown::*then)());
    void give_up();

    const Context& context_;
    std::string vm_;
    std::string unit_;
    std::vector<Undo> order_;
    std::size_t at_ = 0;
    unsigned attempts_ = 0;
    unsigned release_attempts_ = 0;
    Done done_;
    EventSource timer_;
    SystemdHandle job_;
    SystemdHandle watch_;
    PagerHandle closing_;
    SharesHandle removing_;
    DiskHandle folder_;
};

} // namespace thaw::restore
