// SPDX-License-Identifier: MIT
#include "manager.hpp"

#include "api/restore1.hpp"
#include "core/names.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "stop_job.hpp"

#include <algorithm>

namespace thaw::restore {

namespace {

// Who is slow to ask still learns how a job ended.
constexpr Microseconds kRetention = 60 * kUsecPerSec;
constexpr std::size_t kMostRetained = 1024;

void tell_guard_trouble(guard::Trouble trouble, const Error& error) {
    constexpr std::string_view kInstead = "looking at free space directly";
    if (trouble == guard::Trouble::Absent)
        log_notice("no disk guardian on this host: {}", kInstead);
    else if (trouble == guard::Trouble::Silent)
        log_warning("the disk guardian does not answer: {} ({})", kInstead, error.message());
    else
        log_warning("the disk guardian has no answer: {} ({})", kInstead, error.message());
}

} // namespace

Result<std::unique_ptr<Manager>>
Manager::create(const DaemonContext& daemon, const Config& config) {
    THAW_TRY(auto vmm, VmmApi::create(daemon.loop));
    THAW_TRY(auto disk, Disk::create(daemon.loop));
    THAW_TRY(auto throttle, metrics::DirtyThrottle::create(daemon.loop));
    return std::unique_ptr<Manager>(
        new Manager(daemon, config, std::move(vmm), std::move(disk), std::move(throttle))
    );
}

Manager::Manager(
    const DaemonContext& daemon, const Config& config, std::unique_ptr<VmmApi> vmm,
    std::unique_ptr<Disk> disk, std::unique_ptr<metrics::DirtyThrottle> throttle
)
    : loop_(daemon.loop), bus_(daemon.bus), config_(config), policy_(policy_of(config)),
      images_(paths::kImages), records_(paths::kRestoreRuntime), vmm_(std::move(vmm)),
      disk_(std::move(disk)), throttle_(std::move(throttle)), systemd_(bus_, loop_),
      pager_(bus_, loop_), shares_(bus_), guard_(bus_, *disk_, "thaw-restored", tell_guard_trouble),
      polkit_(bus_),
      context_{
          loop_,  bus_,       systemd_, pager_,   shares_, guard_,  *vmm_,
          *disk_, *throttle_, images_,  records_, config_, policy_, *this,
      },
      writers_(
          guard_,
          [this] {
              std::vector<Instance*> all;
              all.reserve(instances_.size());
              for (const auto& [name, instance] : instances_)
                  all.push_back(instance.get());
              return all;
          },
          [this](const std::string& name) { return find_instance(name); }
      ) {}

Result<> Manager::start() {
    register_bus_errors(restore1::kErrors);
    load_policy();
    THAW_CHECK(load_records());
    THAW_CHECK(export_objects());
    THAW_CHECK(systemd_.start());
    THAW_CHECK(shares_.start([this] {
        if (is_ready_) look_for_lost_shares();
    }));
    return pager_.start([this] {
        if (is_ready_) look_for_sessions();
    });
}

void Manager::ready() {
    is_ready_ = true;
    take_up();
    look_for_sessions();
    look_for_lost_shares();
    if (auto watching = writers_.start(); !watching)
        log_error("full volumes will not pause VMs: {}", watching.error().message());
    schedule();
}

std::string Manager::status_text() const {
    return fmt::format("{} VMs, {} jobs.", instances_.size(), count_unfinished());
}

// ---- jobs -----------------------------------------------------------------------------------

JobRecord Manager::new_job(JobKind kind, uid_t uid) {
    if (++last_job_ == 0) ++last_job_;
    if (auto saved = records_.save_last_job_id(last_job_); !saved)
        log_warning("ignoring: {}", saved.error().message());
    return {.id = last_job_, .kind = kind, .uid = uid, .started = now_realtime()};
}

Job& Manager::add_job(std::unique_ptr<Job> job) {
    Job& added = *job;
    jobs_[added.id()] = std::move(job);
    (void)bus_.emit_object_added(added.path());
    (void)bus_.emit_signal(
        restore1::kPath, restore1::kManagerInterface, "JobNew", "uos", added.id(),
        added.path().c_str(), added.instance().c_str()
    );
    changed({"NJobs"});
    queue_.push_back(added.id());
    schedule();
    return added;
}

void Manager::job_changed(Job& job) {
    auto* instance = find_instance(job.instance());
    if (instance == nullptr || is_final(job.state())) return;
    const auto& current = instance->record().job;
    if (current && current->id == job.id()) instance->set_job(job.record());
}

void Manager::job_finished(Job& job) {
    if (auto* instance = find_instance(job.instance())) {
        const auto& current = instance->record().job;
        if (current && current->id == job.id()) instance->set_job(std::nullopt);
    }
    (void)bus_.emit_signal(
        restore1::kPath, restore1::kManagerInterface, "JobRemoved", "uossss", job.id(),
        job.path().c_str(), job.instance().c_str(), job.error_name().c_str(),
        job.error_message().c_str(), std::string(job.result()).c_str()
    );
    changed({"NJobs"});
    ++results_[{job.kind(), std::string(job.result())}];
    std::erase(queue_, job.id());
    running_restores_.erase(job.id());

    const auto id = job.id();
    auto timer = loop_.add_timer(
        kRetention, [this, id] { forget_job(id); }, "job-retention", priority::kCollect
    );
    THAW_INVARIANT(timer.has_value());
    retention_[id] = std::move(*timer);
    // Somebody who asks without end must not make us grow.
    if (retention_.size() > kMostRetained) forget_job(retention_.begin()->first);
    notify_status(status_text());
    schedule();
    writers_.look();
}

void Manager::forget_job(std::uint32_t id) {
    if (auto found = jobs_.find(id); found != jobs_.end()) {
        (void)bus_.emit_object_removed(found->second->path());
        dead_jobs_.push_back(std::move(found->second));
        jobs_.erase(found);
    }
    collect_later();
    retention_.erase(id);
}

std::size_t Manager::count_unfinished() const {
    return static_cast<std::size_t>(std::count_if(jobs_.begin(), jobs_.end(), [](const auto& row) {
        return !is_final(row.second->state());
    }));
}

Job* Manager::find_job(std::uint32_t id) {
    const auto found = jobs_.find(id);
    return found == jobs_.end() ? nullptr : found->second.get();
}

Job* Manager::job_of(const Instance& instance) {
    const auto& job = instance.record().job;
    return job ? find_job(job->id) : nullptr;
}

void Manager::schedule() {
    if (pump_ || !is_ready_) return;
    auto source = loop_.add_defer([this] { pump(); }, "job-queue", priority::kReconcile);
    THAW_INVARIANT(source.has_value());
    pump_ = std::move(*source);
}

// Jobs start from here only, never from the call that made them: its reply goes out first.
void Manager::pump() {
    pump_.reset();
    const auto waiting = std::exchange(queue_, {});
    for (const auto id : waiting) {
        Job* job = find_job(id);
        if (job == nullptr) continue;
        const bool restore = job->kind() == JobKind::Restore;
        if (restore && job->state() != JobState::Queued) continue; // canceled meanwhile
        if (restore && running_restores_.size() >= config_.max_parallel) {
            queue_.push_back(id);
            continue;
        }
        if (restore) running_restores_.insert(id);
        job->start();
    }
}

void Manager::collect_later() {
    if (collect_) return;
    auto source = loop_.add_defer(
        [this] {
            collect_.reset();
            dead_jobs_.clear();
            dead_instances_.clear();
        },
        "collect", priority::kCollect
    );
    THAW_INVARIANT(source.has_value());
    collect_ = std::move(*source);
}

// ---- instances ------------------------------------------------------------------------------

Instance* Manager::find_instance(const std::string& name) {
    const auto found = instances_.find(name);
    return found == instances_.end() ? nullptr : found->second.get();
}

Instance& Manager::add_instance(Record record) {
    const auto name = record.name;
    auto& slot = instances_[name];
    THAW_INVARIANT(slot == nullptr);
    slot = std::make_unique<Instance>(context_, std::move(record));
    (void)bus_.emit_object_added(slot->path());
    (void)bus_.emit_signal(
        restore1::kPath, restore1::kManagerInterface, "InstanceNew", "so", name.c_str(),
        slot->path().c_str()
    );
    changed({"NInstances"});
    return *slot;
}

void Manager::remove_instance(Instance& instance, std::string_view result) {
    const auto found = instances_.find(instance.name());
    THAW_INVARIANT(found != instances_.end() && found->second.get() == &instance);
    if (auto removed = records_.remove(instance.name()); !removed)
        log_warning(instance.log_fields(), "ignoring: {}", removed.error().message());
    instance.stop_watching();
    (void)bus_.emit_object_removed(instance.path());
    dead_instances_.push_back(std::move(found->second));
    instances_.erase(found);
    adopting_.erase(instance.name());
    leftovers_.erase(instance.name());
    std::erase_if(lost_told_, [&](const auto& told) { return told.first == instance.name(); });
    (void)bus_.emit_signal(
        restore1::kPath, restore1::kManagerInterface, "InstanceRemoved", "sos",
        instance.name().c_str(), instance.path().c_str(), std::string(result).c_str()
    );
    changed({"NInstances"});
    notify_status(status_text());
    collect_later();
}

void Manager::keep_stuck_instance(Instance& instance) {
    instance.watch_unit();
}

std::size_t Manager::count_live(const std::string& image) const {
    return static_cast<std::size_t>(std::count_if(
        instances_.begin(), instances_.end(),
        [&](const auto& row) {
            return row.second->is_live() && row.second->record().image == image;
        }
    ));
}

void Manager::unit_changed(Instance& instance, const UnitState& unit) {
    if (Job* job = job_of(instance)) {
        job->on_unit(unit);
        return;
    }
    if (instance.is_cleaning()) return;
    if (unit.is_gone()) {
        instance_ended(instance, unit);
        return;
    }
    const bool adopted = adopting_.erase(instance.name()) > 0;
    const bool unknown = leftovers_.erase(instance.name()) > 0;
    if (adopted || unknown)
        log_event(
            LogLevel::Info, message_id::kInstanceAdopted, instance.log_fields(),
            "{} runs{}; found again after a restart", instance.name(),
            unknown ? " from an unknown image" : ""
        );
}

void Manager::instance_ended(Instance& instance, const UnitState& unit) {
    const bool failed = unit.active_state == "failed";
    const bool leftover = leftovers_.contains(instance.name());
    const bool expected = instance.state() == InstanceState::Stopping;
    if (!leftover && !expected)
        log_event(
            failed ? LogLevel::Warning : LogLevel::Notice, message_id::kInstanceLost,
            instance.log_fields(), "{} ended: {}", instance.name(), describe_unit_end(unit)
        );
    if (!expected) instance.set_state(InstanceState::Stopping);
    const std::string result = expected ? "stopped" : failed ? "failed" : "ended";
    instance.clean_up([this, &instance, result] { remove_instance(instance, result); });
}

void Manager::session_changed(Instance& instance, const PagerSession& session) {
    if (Job* job = job_of(instance)) {
        job->on_session(session);
        return;
    }
    if (!instance.is_live() || instance.is_cleaning()) return;
    if (session.has_failed()) {
        const auto cause = session_failure({session.error_name, session.error_message});
        stop_instance(
            instance, 0,
            Failure{
                .name = cause.name,
                .message = fmt::format("its memory is lost: {}", cause.message),
            }
        );
    } else if (!session.present) {
        // The broker's rules end a session only after its VMM; the unit's end follows.
        log_notice(instance.log_fields(), "the pager session of {} is gone", instance.name());
    }
}

// An overlay that died is gone, or will not come up again: the guest's disk is lost.
void Manager::rootfs_changed(
    Instance& instance, const std::string& service, const UnitState& unit
) {
    // Between two starts of a durable one it is inactive for a moment, with the result of the
    // first.
    const bool restarts = unit.active_state == "inactive" && unit.result != "success";
    if (!unit.is_gone() || restarts) return;
    const auto why = fmt::format(
        "its root file system is lost: {} is {} ({})", service, unit.active_state, unit.result
    );
    if (Job* job = job_of(instance)) {
        job->on_rootfs_lost(why);
        return;
    }
    if (!instance.is_live() || instance.is_cleaning()) return;
    stop_instance(instance, 0, Failure{.name = restore1::error::kRootfsFailed, .message = why});
}

void Manager::share_lost(const LostShare& share) {
    auto* instance = find_instance(share.vm);
    if (instance == nullptr || !instance->record().made.shares) return;
    if (Job* job = job_of(*instance)) {
        job->on_share_lost(share);
        return;
    }
    if (!instance->is_live() || instance->is_cleaning()) return;
    const auto what = fmt::format("its share \"{}\" is lost: {}", share.tag, share.message);
    if (share.stops_vm)
        stop_instance(
            *instance, 0, Failure{.name = restore1::error::kShareFailed, .message = what}
        );
    else if (lost_told_.emplace(share.vm, share.tag).second)
        log_warning(instance->log_fields(), "{} runs on though {}", share.vm, what);
}

Job& Manager::stop_instance(Instance& instance, uid_t uid, std::optional<Failure> cause) {
    if (cause) {
        auto fields = instance.log_fields();
        fields.push_back({"THAW_ERROR", std::string(cause->name)});
        log_event(
            LogLevel::Error, message_id::kLossFound, fields, "stopping {}: {}", instance.name(),
            cause->message
        );
    }
    const auto record = new_job(JobKind::Stop, uid);
    instance.set_job(record);
    return add_job(std::make_unique<StopJob>(context_, record, instance, std::move(cause)));
}

} // namespace thaw::restore
