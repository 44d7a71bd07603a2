// SPDX-License-Identifier: MIT
#include "restore_plan.hpp"

#include <algorithm>

namespace thaw::restore {

namespace {

constexpr Microseconds kSessionLimit = 15 * kUsecPerSec;
constexpr Microseconds kSharesLimit = 60 * kUsecPerSec;
// The journal of a durable overlay is replayed.
constexpr Microseconds kRootfsLimit = 60 * kUsecPerSec;
constexpr Microseconds kStartLimit = 30 * kUsecPerSec;
constexpr Microseconds kApiLimit = 10 * kUsecPerSec;
constexpr Microseconds kProofLimit = 5 * kUsecPerSec;

} // namespace

const std::vector<StepSpec>& step_table() {
    using enum Step;
    static const std::vector<StepSpec> table{
        {OpenImage, "open-image", JobState::Preflight, {}, 0},
        {CheckUnit, "check-unit", JobState::Preflight, {}, kStartLimit},
        {CheckSpace, "check-space", JobState::Reserving, {OpenImage, CheckUnit}, 0},
        {CreateSession, "create-session", JobState::Preparing, {CheckSpace}, kSessionLimit},
        {WriteDropIn, "write-drop-in", JobState::Preparing, {CheckSpace}, 0},
        // WriteDropIn: their units name the VM's, which systemd loads with them.
        {AddShares, "add-shares", JobState::Preparing, {WriteDropIn}, kSharesLimit},
        {StartRootfs, "start-rootfs", JobState::Preparing, {WriteDropIn}, kRootfsLimit},
        {AttachRootfs, "attach-rootfs", JobState::Preparing, {StartRootfs}, kStartLimit},
        {WriteTicket, "write-ticket", JobState::Preparing, {CheckSpace}, 0},
        {StartUnit,
         "start-unit",
         JobState::Starting,
         {CreateSession, AddShares, WriteDropIn, StartRootfs, AttachRootfs, WriteTicket},
         kStartLimit},
        {AwaitApi, "await-api", JobState::Starting, {StartUnit}, kApiLimit},
        {LoadSnapshot, "load-snapshot", JobState::Loading, {AwaitApi}, 0},
        {CheckTracking, "check-tracking", JobState::Loading, {LoadSnapshot}, kApiLimit},
        // LoadSnapshot as well: CheckTracking counts as finished from the start without tracking.
        {ResumeVm, "resume-vm", JobState::Loading, {LoadSnapshot, CheckTracking}, kApiLimit},
        {AwaitServing, "await-serving", JobState::Proving, {ResumeVm}, kProofLimit},
        // ResumeVm as well: AwaitServing counts as finished from the start without a pager.
        {ConfirmUnit, "confirm-unit", JobState::Proving, {ResumeVm, AwaitServing}, kApiLimit},
    };
    return table;
}

const StepSpec& step_spec(Step step) {
    return step_table()[static_cast<std::size_t>(step)];
}

Plan::Plan() : status_(kStepCount, Status::Waiting) {}

std::vector<Step> Plan::ready() const {
    std::vector<Step> steps;
    for (const auto& spec : step_table()) {
        const auto met = [this](Step need) { return is_finished(need); };
        if (status(spec.step) == Status::Waiting &&
            std::all_of(spec.needs.begin(), spec.needs.end(), met))
            steps.push_back(spec.step);
    }
    return steps;
}

void Plan::start(Step step) {
    THAW_INVARIANT(status(step) == Status::Waiting);
    status_[static_cast<std::size_t>(step)] = Status::Running;
}

void Plan::finish(Step step) {
    THAW_INVARIANT(status(step) == Status::Running);
    status_[static_cast<std::size_t>(step)] = Status::Finished;
}

void Plan::skip(Step step) {
    THAW_INVARIANT(status(step) == Status::Waiting);
    status_[static_cast<std::size_t>(step)] = Status::Finished;
}

bool Plan::complete() const {
    return std::all_of(status_.begin(), status_.end(), [](Status s) {
        return s == Status::Finished;
    });
}

JobState Plan::state() const {
    for (const auto& spec : step_table())
        if (!is_finished(spec.step)) return spec.state;
    return JobState::Done;
}

std::string_view Plan::stage() const {
    for (const auto& spec : step_table())
        if (is_running(spec.step)) return spec.name;
    for (const auto& spec : step_table())
        if (!is_finished(spec.step)) return spec.name;
    return "";
}

double Plan::progress() const {
    const auto finished = std::count(status_.begin(), status_.end(), Status::Finished);
    return static_cast<double>(finished) / static_cast<double>(kStepCount);
}

std::vector<Undo> undo_order(const Made& made) {
    std::vector<Undo> order;
    if (made.unit) order.push_back(Undo::StopUnit);
    if (made.session) order.push_back(Undo::CloseSession);
    if (made.shares) order.push_back(Undo::RemoveShares);
    if (made.rootfs) order.push_back(Undo::StopRootfs);
    if (made.base) order.push_back(Undo::ReleaseBase);
    if (made.drop_in) order.push_back(Undo::RemoveDropIn);
    if (made.ticket) order.push_back(Undo::RemoveTicket);
    return order;
}

} // namespace thaw::restore
