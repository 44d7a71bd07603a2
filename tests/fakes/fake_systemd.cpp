// SPDX-License-Identifier: MIT
#include "fakes/fake_systemd.hpp"

#include "event/priorities.hpp"
#include "fakes/fake_systemd_internal.hpp"

#include <algorithm>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::fakes {

using namespace systemd1;

FakeSystemd::FakeSystemd(EventLoop& loop, Bus bus) : loop_(loop), bus_(std::move(bus)) {}

FakeSystemd::~FakeSystemd() = default;

Result<std::unique_ptr<FakeSystemd>> FakeSystemd::create(EventLoop& loop, Bus bus, bool own_name) {
    std::unique_ptr<FakeSystemd> fake(new FakeSystemd(loop, std::move(bus)));
    THAW_CHECK(fake->go_public(own_name));
    return fake;
}

void FakeSystemd::later(Microseconds delay, std::function<void()> action) {
    const auto id = next_timer_++;
    auto timer = loop_.add_timer(
        delay,
        [this, id, action = std::move(action)] {
            const auto keep = timers_.extract(id);
            action();
        },
        "fake-systemd", priority::kTimer
    );
    THAW_INVARIANT(timer.has_value());
    timers_[id] = std::move(*timer);
}

// ---- life ---------------------------------------------------------------------------------------

void FakeSystemd::reload() {
    if (subscribers_.empty()) return;
    (void)bus_->emit_signal(kPath, kManager, "Reloading", "b", 1);
    (void)bus_->emit_signal(kPath, kManager, "Reloading", "b", 0);
}

void FakeSystemd::vanish() {
    slots_.clear();
    unanswered_.clear();
    for (auto& [id, job] : jobs_)
        job->call = {};
    bus_.reset();
    owns_name_ = false;
    subscribers_.clear();
}

Result<> FakeSystemd::come_back(Bus bus, bool own_name) {
    bus_ = std::move(bus);
    return go_public(own_name);
}

// ---- units --------------------------------------------------------------------------------------

void FakeSystemd::add_unit(const std::string& name, FakeUnit unit) {
    units_[name] = std::move(unit);
}

FakeUnit* FakeSystemd::unit(const std::string& name) {
    auto found = units_.find(name);
    return found != units_.end() ? &found->second : nullptr;
}

void FakeSystemd::change_unit(
    const std::string& name, const std::function<void(FakeUnit&)>& change
) {
    auto* unit_to_change = unit(name);
    if (unit_to_change == nullptr) return;
    const auto before = unit_to_change->active_state;
    change(*unit_to_change);
    if (on_state_ && before != unit_to_change->active_state) on_state_(name, *unit_to_change);
    announce(name);
}

void FakeSystemd::end_unit(const std::string& name, const std::string& result) {
    change_unit(name, [&](FakeUnit& unit) {
        unit.active_state = result == "success" ? "inactive" : "failed";
        unit.sub_state = result == "success" ? "dead" : "failed";
        unit.result = result;
        unit.main_pid = 0;
    });
}

void FakeSystemd::unload_unit(const std::string& name) {
    unloaded_.insert(name);
    emit_unit_signal("UnitRemoved", name);
}

void FakeSystemd::announce(const std::string& name) {
    if (!bus_ || subscribers_.empty()) return;
    (void)bus_->emit_properties_changed(
        unit_path(name), kServiceInterface, {"Result", "MainPID", "ExecMainCode", "ExecMainStatus"}
    );
    (void
    )bus_->emit_properties_changed(unit_path(name), kUnitInterface, {"ActiveState", "SubState"});
}

void FakeSystemd::emit_unit_signal(const char* member, const std::string& name) {
    if (!bus_ || subscribers_.empty()) return;
    (void)bus_->emit_signal(kPath, kManager, member, "so", name.c_str(), unit_path(name).c_str());
}

// Looking at a unit loads it; one that nobody needs is announced, then dropped again.
FakeUnit* FakeSystemd::find_or_load(const std::string& name) {
    auto* known = unit(name);
    if (known != nullptr && !unloaded_.contains(name)) return known;
    emit_unit_signal("UnitNew", name);
    later(0, [this, name] {
        stubs_.erase(name);
        emit_unit_signal("UnitRemoved", name);
    });
    if (known != nullptr) return known;
    return &stubs_.insert_or_assign(name, FakeUnit{.load_state = "not-found"}).first->second;
}

void* FakeSystemd::find_unit_object(const std::string& path) {
    auto name = decode_object_path(kUnitPrefix, path);
    if (!name || name->find('.') == std::string::npos) return nullptr;
    if (auto stub = stubs_.find(*name); stub != stubs_.end()) return &stub->second;
    return find_or_load(*name);
}

void* FakeSystemd::find_job_object(const std::string& path) {
    for (const auto& [id, job] : jobs_)
        if (job->path() == path) return job.get();
    return nullptr;
}

// ---- jobs ---------------------------------------------------------------------------------------

FakePlan FakeSystemd::take_plan(const std::string& unit, bool start) {
    auto& plans = (start ? start_plans_ : stop_plans_)[unit];
    if (plans.empty()) return {};
    auto plan = std::move(plans.front());
    plans.pop_front();
    return plan;
}

Result<> FakeSystemd::method_start(BusMessage message) {
    return make_job(std::move(message), true);
}

Result<> FakeSystemd::method_stop(BusMessage message) {
    return make_job(std::move(message), false);
}

Result<> FakeSystemd::make_job(BusMessage message, bool start) {
    const char *name = nullptr, *mode = nullptr;
    THAW_CHECK(message.read("ss", &name, &mode));
    const std::string unit_name = name;
    note({.member = start ? "StartUnit" : "StopUnit", .unit = unit_name, .mode = mode});
    auto plan = take_plan(unit_name, start);
    if (plan.never_reply) {
        unanswered_.push_back(std::move(message));
        return {};
    }
    if (!plan.error_name.empty()) {
        sd_bus_reply_method_errorf(
            message.get(), plan.error_name.c_str(), "Planned failure of %s", name
        );
        return {};
    }
    const auto* known = unit(unit_name);
    const bool stoppable = known != nullptr && !unloaded_.contains(unit_name);
    if (known == nullptr || (!start && !stoppable))
        return fail_named(kNoSuchUnit, ENOENT, "Unit {} not found.", unit_name);
    if (start && unloaded_.erase(unit_name) > 0) emit_unit_signal("UnitNew", unit_name);

    const auto id = next_job_++;
    auto& job =
        *(jobs_[id] = std::make_unique<Job>(Job{
              .id = id, .unit = unit_name, .start = start, .plan = plan, .call = std::move(message)
          }));
    if (!subscribers_.empty())
        (void)bus_->emit_signal(kPath, kManager, "JobNew", "uos", id, job.path().c_str(), name);
    begin(job);
    if (plan.removed_first) {
        apply(job);
        emit_job_removed(job);
    }
    auto answer = [this, id, plan] {
        auto found = jobs_.find(id);
        if (found == jobs_.end()) return;
        answer_job(*found->second);
        if (plan.removed_first)
            jobs_.erase(found);
        else if (!plan.never_finish)
            later(plan.job_delay, [this, id] { remove_job(id); });
    };
    if (plan.reply_delay == 0)
        answer();
    else
        later(plan.reply_delay, answer);
    return {};
}

void FakeSystemd::answer_job(Job& job) {
    if (job.call) (void)job.call.reply("o", job.path().c_str());
    job.call = {};
}

// A start of what runs, or a stop of what does not, leaves the state alone.
void FakeSystemd::begin(const Job& job) {
    const auto* now = unit(job.unit);
    const bool gone = now->active_state == "inactive" || now->active_state == "failed";
    if (job.start != gone) return;
    change_unit(job.unit, [&](FakeUnit& changed) {
        changed.active_state = job.start ? "activating" : "deactivating";
        changed.sub_state = job.start ? "start" : "stop-sigterm";
    });
}

void FakeSystemd::apply(Job& job) {
    const bool done = job.plan.job_result == "done";
    auto state = job.plan.active_state;
    if (state.empty()) state = job.start ? (done ? "active" : "failed") : "inactive";
    if (!job.start && !done && job.plan.active_state.empty()) state = "active"; // still running
    auto result = job.plan.unit_result;
    if (result.empty()) result = state == "failed" ? "exit-code" : "success";
    change_unit(job.unit, [&](FakeUnit& unit) {
        unit.active_state = state;
        unit.sub_state = state == "active" ? "running" : state == "failed" ? "failed" : "dead";
        unit.result = result;
        if (state != "active") unit.main_pid = 0;
        unit.exec_main_code = job.plan.exec_main_code;
        unit.exec_main_status = job.plan.exec_main_status;
    });
}

void FakeSystemd::remove_job(std::uint32_t id) {
    auto found = jobs_.find(id);
    if (found == jobs_.end()) return;
    const auto job = std::move(found->second);
    jobs_.erase(found);
    answer_job(*job);
    apply(*job);
    emit_job_removed(*job);
}

void FakeSystemd::emit_job_removed(const Job& job) {
    if (!bus_ || subscribers_.empty()) return;
    (void)bus_->emit_signal(
        kPath, kManager, "JobRemoved", "uoss", job.id, job.path().c_str(), job.unit.c_str(),
        job.plan.job_result.c_str()
    );
}

bool FakeSystemd::finish_job(const std::string& unit_name, const std::string& result) {
    for (auto& [id, job] : jobs_) {
        if (job->unit != unit_name) continue;
        job->plan.job_result = result;
        remove_job(job->id);
        return true;
    }
    return false;
}

bool FakeSystemd::has_job(const std::string& unit_name) const {
    return std::any_of(jobs_.begin(), jobs_.end(), [&](const auto& entry) {
        return entry.second->unit == unit_name;
    });
}

void FakeSystemd::add_job(const std::string& unit_name) {
    const auto id = next_job_++;
    jobs_[id] = std::make_unique<Job>(Job{.id = id, .unit = unit_name, .start = true});
}

void FakeSystemd::forget_jobs() {
    jobs_.clear();
}

// ---- record

void FakeSystemd::note(FakeCall call) {
    if (on_call_) on_call_(call);
    calls_.push_back(std::move(call));
}

std::size_t FakeSystemd::count_calls(const std::string& member) const {
    return static_cast<std::size_t>(std::count_if(
        calls_.begin(), calls_.end(), [&](const FakeCall& call) { return call.member == member; }
    ));
}

} // namespace thaw::fakes

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
