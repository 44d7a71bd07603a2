// SPDX-License-Identifier: MIT
#include "overlay/commits.hpp"

#include <shared_mutex>

namespace thaw::rootfs {

void Commits::note(const MapRun& change) {
    const std::lock_guard lock(noting_);
    auto& changes = noted_.changes;
    if (!changes.empty()) {
        auto& last = changes.back();
        if (last.block + last.count == change.block &&
            last.location.plus(last.count) == change.location) {
            last.count += change.count;
            return;
        }
    }
    changes.push_back(change);
}

void Commits::note_idle(SlotRun run) {
    const std::lock_guard lock(noting_);
    noted_.idle.push_back(run);
}

Commits::Batch Commits::take_batch() {
    const std::lock_guard lock(noting_);
    return std::exchange(noted_, {});
}

void Commits::put_back(Batch batch) {
    const std::lock_guard lock(noting_);
    // Before what came since: for one block the last change counts.
    batch.changes.insert(batch.changes.end(), noted_.changes.begin(), noted_.changes.end());
    batch.idle.insert(batch.idle.end(), noted_.idle.begin(), noted_.idle.end());
    noted_ = std::move(batch);
}

Result<> Commits::commit() {
    std::unique_lock lock(committing_);
    const std::uint64_t ticket = ++asked_;
    while (done_ < ticket) {
        if (running_) {
            committed_.wait(lock);
            continue;
        }
        running_ = true;
        const std::uint64_t upto = asked_;
        lock.unlock();
        auto result = commit_batch();
        lock.lock();
        running_ = false;
        done_ = upto;
        last_ = std::move(result);
        committed_.notify_all();
    }
    // A later one that worked has made this one's changes safe as well.
    return last_;
}

Result<> Commits::commit_batch() {
    if (broken_) return fail(EIO, "a sync of the overlay has failed before");
    auto batch = take_batch();
    if (auto room = journal_.reserve(batch.changes.size()); !room) {
        put_back(std::move(batch));
        return room;
    }
    auto written = write_batch(batch);
    if (written && journal_.wants_rewrite()) written = rewrite_log();
    if (!written) {
        broken_ = true;
        return fail(EIO, "{}", written.error().message());
    }
    return {};
}

Result<> Commits::write_batch(const Batch& batch) {
    THAW_CHECK(disk_.sync());
    if (!batch.changes.empty()) THAW_CHECK(journal_.append(batch.changes));
    retire(batch.idle);
    return {};
}

Result<> Commits::rewrite_log() {
    std::vector<MapRun> runs;
    Batch batch;
    {
        const std::unique_lock closed(gate_);
        runs = map_.runs();
        batch = take_batch();
    }
    THAW_CHECK(disk_.sync());
    THAW_TRY(const bool done, journal_.rewrite(runs));
    if (!done) {
        put_back(std::move(batch));
        return {};
    }
    retire(batch.idle);
    return {};
}

void Commits::retire(const std::vector<SlotRun>& idle) {
    const std::shared_lock inside(gate_);
    for (const SlotRun run : idle)
        disk_.retire(run);
}

} // namespace thaw::rootfs
