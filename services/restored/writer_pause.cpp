// SPDX-License-Identifier: MIT
#include "writer_pause.hpp"

#include "instance.hpp"
#include "log/message_ids.hpp"

#include <algorithm>
#include <utility>

namespace thaw::restore {

WriterPause::WriterPause(
    guard::GuardClient& guard, std::function<std::vector<Instance*>()> list,
    std::function<Instance*(const std::string&)> find
)
    : guard_(guard), list_(std::move(list)), find_(std::move(find)) {}

Result<> WriterPause::start() {
    THAW_TRY(watch_, guard_.watch([this](const std::vector<guard::VolumeView>& volumes) {
        on_volumes(volumes);
    }));
    return {};
}

void WriterPause::on_volumes(const std::vector<guard::VolumeView>& volumes) {
    // A guardian that is gone for a moment is no reason to let anybody loose; the next one has to
    // be told anew.
    if (volumes.empty()) {
        reported_.clear();
        return;
    }
    const auto ids = [](const std::vector<guard::VolumeView>& views) {
        std::set<std::string> found;
        for (const auto& view : views)
            found.insert(view.id);
        return found;
    };
    if (ids(volumes) != ids(volumes_)) volume_of_path_.clear();
    volumes_ = volumes;
    look();
}

const guard::VolumeView* WriterPause::view_of(const std::string& volume) const {
    const auto found = std::ranges::find(volumes_, volume, &guard::VolumeView::id);
    return found == volumes_.end() ? nullptr : &*found;
}

std::vector<std::string> WriterPause::volumes_of(const Instance& instance) {
    std::vector<std::string> ids;
    for (const auto& path : instance.record().written) {
        if (const auto known = volume_of_path_.find(path); known != volume_of_path_.end()) {
            if (!known->second.empty()) ids.push_back(known->second);
            continue;
        }
        if (asking_.contains(path)) continue;
        asking_[path] =
            guard_.find_volume(path, [this, path](const Result<guard::VolumeView>& found) {
                const auto done = asking_.extract(path);
                const bool none =
                    !found && found.error().bus_name() == diskguard1::error::kNoSuchVolume;
                // Any other trouble: asked again at the next sign.
                if (!found && !none) return;
                volume_of_path_[path] = found ? found->id : "";
                look();
            });
    }
    return ids;
}

void WriterPause::look() {
    // A VM that is changed at once comes back here from inside.
    if (volumes_.empty() || std::exchange(looking_, true)) return;
    const bool wanted = std::ranges::any_of(volumes_, [](const auto& volume) {
        return volume.writers == diskguard1::Writers::Pause;
    });
    std::vector<Writer> writers;
    for (const auto* instance : list_()) {
        const auto& record = instance->record();
        if (!instance->is_live() && record.paused_for.empty()) continue;
        writers.push_back({
            .name = record.name,
            .state = record.state,
            .busy = instance->has_job() || instance->is_cleaning() || instance->is_changing() ||
                    busy_.contains(record.name),
            .paused_for = record.paused_for,
            // Nobody is asked before it matters.
            .volumes = wanted ? volumes_of(*instance) : std::vector<std::string>(),
        });
    }
    const auto plan = plan_writers(volumes_, writers);
    for (const auto& name : plan.forget)
        if (auto* instance = find_(name)) instance->set_paused_for({});
    for (const auto& pause : plan.pause)
        change(pause, true);
    for (const auto& resume : plan.resume)
        change(resume, false);
    for (const auto& [volume, settled] : plan.settled)
        if (asking_.empty()) report(volume, settled);
    looking_ = false;
}

void WriterPause::change(const WriterPlan::Change& change, bool pause) {
    auto* instance = find_(change.name);
    if (instance == nullptr) return;
    busy_.insert(change.name);
    // On disk before it is done: a manager that is started anew must know whom to resume.
    if (pause) instance->set_paused_for(change.volume);
    instance->change_vm_state(
        pause ? VmState::Paused : VmState::Resumed,
        [this, change, pause](const Result<>& done) { changed(change, pause, done); }
    );
}

void WriterPause::changed(const WriterPlan::Change& change, bool pause, const Result<>& done) {
    busy_.erase(change.name);
    auto* instance = find_(change.name);
    if (instance == nullptr) return;
    const auto* volume = view_of(change.volume);
    const auto mount_point = volume != nullptr ? volume->mount_point : change.volume;
    auto fields = instance->log_fields();
    fields.push_back({"THAW_VOLUME", change.volume});
    fields.push_back({"THAW_MOUNT_POINT", mount_point});
    if (done && pause)
        log_event(
            LogLevel::Warning, message_id::kWritersPaused, fields, "{} paused: {} is full",
            change.name, mount_point
        );
    else if (done)
        log_event(
            LogLevel::Notice, message_id::kWritersResumed, fields, "{} runs again: {} has room",
            change.name, mount_point
        );
    else
        log_warning(
            fields, "{} could not be {}: {}", change.name, pause ? "paused" : "resumed",
            done.error().message()
        );
    // One that cannot be paused is left alone until its volume was well once more.
    if (!pause) instance->set_paused_for({});
    look();
}

void WriterPause::report(const std::string& volume, const WriterPlan::Settled& settled) {
    const auto before = reported_.find(volume);
    const auto told = before == reported_.end() ? WriterPlan::Settled{} : before->second;
    if (told == settled) return;
    // Writers that were never stopped are no news.
    reported_[volume] = settled;
    if (!settled.stopped && !told.stopped) return;
    const auto count = settled.stopped ? settled.count : told.count;
    reports_[volume] =
        guard_.report_writers(volume, settled.stopped, count, [this, volume](const Result<>& done) {
            const auto handle = reports_.extract(volume);
            if (done) return;
            reported_.erase(volume); // told again at the next sign
            log_warning("the disk guardian was not told: {}", done.error().message());
        });
}

} // namespace thaw::restore
