// SPDX-License-Identifier: MIT
#pragma once

// The restore as a table of steps: what waits for what, what has to be undone and in which order.
// Pure decisions; the steps themselves are restore_job.hpp's.

#include "core/text.hpp"
#include "job_state.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::restore {

enum class Step {
    OpenImage,     // preflight: manifest, files, drives, memory backend
    CheckUnit,     // preflight: the unit is not running; forgets an earlier failure of it
    CheckSpace,    // reserving
    CreateSession, // preparing: the pager's session and its socket
    WriteDropIn,   // preparing: settings of the unit for this start
    AddShares,     // preparing: the VM's directories of this host
    StartRootfs,   // preparing: the server of the VM's root file system
    AttachRootfs,  // preparing: its block device, for a VMM that speaks no NBD
    WriteTicket,   // preparing: the permission for this start
    StartUnit,     // starting
    AwaitApi,      // starting: the VMM's API socket accepts
    LoadSnapshot,  // loading
    CheckTracking, // loading: what the guest will write is noted, and nothing writes past that
    ResumeVm,      // loading
    AwaitServing,  // proving: the pager has the VMM's memory and serves
    ConfirmUnit,   // proving: the unit is still active
};
inline constexpr std::size_t kStepCount = 16;

struct StepSpec {
    Step step;
    std::string_view name; // Job.Stage
    JobState state;
    std::vector<Step> needs;
    Microseconds limit; // 0: bounded by what it calls; LoadSnapshot's comes with the job
};
const std::vector<StepSpec>& step_table();
const StepSpec& step_spec(Step step);

// Progress through the table.
class Plan {
public:
    Plan();
    // Steps whose needs are met and that were not started.
    std::vector<Step> ready() const;
    void start(Step step);
    void finish(Step step);
    // The restore does without it. What needs it must need the step before it as well.
    void skip(Step step);
    bool is_running(Step step) const { return status(step) == Status::Running; }
    bool is_finished(Step step) const { return status(step) == Status::Finished; }
    bool complete() const;
    // The state of the first step that is not finished; Done when all are.
    JobState state() const;
    // Name of the first running step, else of the first one that waits.
    std::string_view stage() const;
    double progress() const;

private:
    enum class Status { Waiting, Running, Finished };
    Status status(Step step) const { return status_[static_cast<std::size_t>(step)]; }
    std::vector<Status> status_;
};

// What an attempt has made, or was about to make, and thus has to take away.
struct Made {
    bool unit = false;
    bool session = false;
    bool drop_in = false;
    bool ticket = false;
    bool shares = false;
    bool rootfs = false;
    bool base = false;          // the pager serves what is below the root file system
    bool rootfs_device = false; // goes with the root file system
    bool operator==(const Made&) const = default;
};
enum class Undo {
    StopUnit,
    CloseSession,
    RemoveShares,
    StopRootfs,
    ReleaseBase,
    RemoveDropIn,
    RemoveTicket
};
// The unit first: nothing is taken from under a VMM that runs.
std::vector<Undo> undo_order(const Made& made);

inline constexpr Microseconds kStopBudget = 10 * kUsecPerSec;
inline constexpr Microseconds kKillBudget = 5 * kUsecPerSec;

} // namespace thaw::restore
