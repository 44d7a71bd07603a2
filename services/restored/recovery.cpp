// SPDX-License-Identifier: MIT
// The way back after a restart of the manager: the records say what was, systemd and the pager say
// what is. Nothing is decided before one of them has answered.
#include "api/restore1.hpp"
#include "core/names.hpp"
#include "core/rootfs_names.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"
#include "rootfs_options.hpp"
#include "stop_job.hpp"
#include "vm_fields.hpp"

#include <filesystem>
#include <system_error>

namespace thaw::restore {

void Manager::load_policy() {
    auto saved = records_.load_policy(policy_);
    if (!saved)
        log_warning("ignoring the saved policy: {}", saved.error().message());
    else
        policy_ = saved->value_or(policy_);
    const auto differs = describe_difference(policy_, policy_of(config_));
    if (!differs.empty())
        log_event(
            LogLevel::Notice, message_id::kPolicyKept, {},
            "breakers that were set at run time hold, not the configuration: {}", differs
        );
}

Result<> Manager::load_records() {
    if (auto last = records_.last_job_id(); last)
        last_job_ = *last;
    else
        log_warning("ignoring the last job's number: {}", last.error().message());

    THAW_TRY(const auto content, records_.load());
    for (const auto& record : content.records)
        add_recorded(record);
    for (const auto& damaged : content.damaged) {
        log_warning(
            vm_fields(damaged.name), "the record of {} is damaged: {}", damaged.name, damaged.why
        );
        if (is_valid_vm_name(damaged.name)) add_leftover(damaged.name);
        // One that stays on the books is written anew.
        if (auto removed = records_.remove(damaged.name); !removed)
            log_warning("ignoring: {}", removed.error().message());
    }
    for (const auto& name : content.tickets)
        add_leftover(name);
    for (const auto& name : units_with_drop_in())
        add_leftover(name);
    return {};
}

void Manager::add_recorded(const Record& record) {
    auto& instance = add_instance(record);
    if (instance.is_recording()) {
        // Nobody waits for it any more.
        instance.set_job(std::nullopt);
        leftover_recordings_.push_back(record.name);
    }
    last_job_ = std::max(last_job_, std::max(record.restored_by, record.job ? record.job->id : 0));
    if (instance.is_recording()) return;
    if (!record.job) {
        // Its restore succeeded; an earlier version put that on disk before the state.
        if (record.state == InstanceState::Restoring) instance.set_state(InstanceState::Running);
        adopting_.insert(record.name);
        return;
    }
    // The same job under the same number: whoever waits for it hears how it ends.
    const auto& job = *record.job;
    if (job.kind == JobKind::Stop) {
        add_job(std::make_unique<StopJob>(context_, job, instance));
        return;
    }
    if (job.kind == JobKind::Snapshot) {
        add_job(std::make_unique<SnapshotJob>(
            context_, job, instance, std::string(), SnapshotJob::Kind::Full
        ));
        std::erase(queue_, job.id); // as below
        interrupted_snapshots_.push_back(job.id);
        return;
    }
    add_job(std::make_unique<RestoreJob>(context_, job, instance, RestoreOptions{}));
    std::erase(queue_, job.id); // it is recovered, not started
    interrupted_.push_back(job.id);
}

// Something of a VM is there, but no record: a running VM is put on the books, else it is removed.
void Manager::add_leftover(const std::string& name) {
    if (find_instance(name) != nullptr) return;
    add_instance({
        .name = name,
        .image = {},
        .state = InstanceState::Running,
        .made =
            {.unit = true,
             .session = true,
             .drop_in = true,
             .ticket = true,
             .shares = true,
             // Watched, its absence would be the loss of a root file system that never was.
             .rootfs = has_rootfs_settings(name),
             .base = std::filesystem::exists(paths::rootfs_source(name)),
             // The device itself is not to be seen from here.
             .rootfs_device = read_file(paths::vm_drop_in(name))
                                  .value_or("")
                                  .contains(paths::rootfs_device(name))},
    });
    leftovers_.insert(name);
}

std::vector<std::string> Manager::units_with_drop_in() const {
    std::vector<std::string> names;
    std::error_code code;
    std::filesystem::directory_iterator entries(paths::kRuntimeUnits, code);
    for (const std::filesystem::directory_iterator end; !code && entries != end;
         entries.increment(code)) {
        auto folder = entries->path().filename().string();
        if (!folder.ends_with(".d")) continue;
        folder.resize(folder.size() - 2);
        auto vm = vm_of_vmm_unit(folder);
        if (!vm || !std::filesystem::exists(paths::vm_drop_in(*vm), code)) continue;
        names.push_back(std::move(*vm));
    }
    return names;
}

void Manager::take_up() {
    for (const auto id : std::exchange(interrupted_, {})) {
        running_restores_.insert(id);
        static_cast<RestoreJob&>(*jobs_.at(id)).recover();
    }
    for (const auto id : std::exchange(interrupted_snapshots_, {})) {
        auto& job = static_cast<SnapshotJob&>(*jobs_.at(id));
        auto& instance = *instances_.at(job.instance());
        instance.watch_unit();
        if (instance.record().made.session) instance.watch_session();
        if (instance.record().made.rootfs) instance.watch_rootfs();
        job.recover();
    }
    for (const auto& name : std::exchange(leftover_recordings_, {}))
        stop_instance(
            *instances_.at(name), 0,
            Failure{
                .name = restore1::error::kManagerRestarted,
                .message = "its recording was interrupted",
            }
        );
    for (const auto& [name, instance] : instances_) {
        if (instance->has_job()) continue;
        instance->watch_unit();
        // What remains of a VM that could not be stopped has no say any more.
        const bool by_pager = instance->record().made.session && instance->is_live();
        if (by_pager) instance->watch_session();
        if (instance->record().made.rootfs && instance->is_live()) instance->watch_rootfs();
    }
}

// Sessions that nobody on the books has: of a VM that runs, or left over.
void Manager::look_for_sessions() {
    sessions_ = pager_.list_sessions([this](const Result<std::vector<SessionEntry>>& entries) {
        if (!entries) {
            log_debug("list pager sessions: {}", entries.error().message());
            return;
        }
        for (const auto& entry : *entries) {
            const auto vm = vm_of_vmm_unit(entry.unit);
            if (!vm || *vm != entry.name || find_instance(*vm) != nullptr) continue;
            add_leftover(*vm);
            instances_.at(*vm)->watch_unit();
        }
    });
}

// A share that was lost while nobody looked is lost all the same.
void Manager::look_for_lost_shares() {
    lost_ = shares_.list_lost([this](const Result<std::vector<LostShare>>& lost) {
        if (!lost) {
            log_debug("list shares: {}", lost.error().message());
            return;
        }
        for (const auto& share : *lost)
            share_lost(share);
    });
}

} // namespace thaw::restore
