// SPDX-License-Identifier: MIT
#include "overlay/overlay.hpp"

#include <algorithm>
#include <shared_mutex>

namespace thaw::rootfs {

Overlay::Overlay(Parts parts)
    : size_(parts.size), base_(std::move(parts.base)), memory_(std::move(parts.memory)),
      disk_(std::move(parts.disk)), map_(blocks_of(parts.size)) {}

Result<std::unique_ptr<Overlay>> Overlay::open(Parts parts) {
    const bool durable = parts.journal[0] && parts.journal[1];
    if (!parts.base || parts.size == 0 || parts.size < parts.base->size())
        return fail(EINVAL, "the overlay's disk is smaller than its base");
    if (durable && (!parts.disk || parts.memory))
        return fail(EINVAL, "a durable overlay lies on disk and nowhere else");
    auto journal = std::move(parts.journal);
    std::unique_ptr<Overlay> overlay(new Overlay(std::move(parts)));
    if (durable) THAW_CHECK(overlay->start(std::move(journal)));
    return overlay;
}

Result<> Overlay::start(Journal::Files files) {
    THAW_CHECK(disk_->load_size());
    const auto apply = [this](const MapRun& run) -> Result<> {
        if (run.block > map_.blocks() || run.count > map_.blocks() - run.block ||
            run.location.kind == Kind::Memory)
            return fail(EBADMSG, "the overlay's journal names a block that is not there");
        for (std::uint32_t i = 0; i < run.count; ++i)
            map_.set(run.block + i, run.location.plus(i));
        return {};
    };
    const JournalIdentity identity{.disk_size = size_, .base_tag = base_->tag()};
    THAW_TRY(
        auto journal, Journal::open(std::move(files), identity, disk_->capacity() == 0, apply)
    );
    for (const auto& run : map_.runs()) {
        if (run.location.kind != Kind::Disk) continue;
        if (!disk_->adopt({.first = run.location.slot, .count = run.count}))
            return fail(EBADMSG, "two blocks of the overlay lie in one place, or beyond its file");
    }
    commits_.emplace(std::move(journal), map_, *disk_, gate_);
    return {};
}

Overlay::~Overlay() {
    THAW_INVARIANT(!point_held_);
    if (commits_) static_cast<void>(commits_->commit());
}

Result<> Overlay::check_range(std::uint64_t offset, std::uint64_t length) const {
    if (offset > size_ || length > size_ - offset)
        return fail(EINVAL, "bytes {}+{} are beyond the disk's {}", offset, length, size_);
    return {};
}

Result<> Overlay::finish(Result<> done, bool commit) {
    if (done && commit && commits_) done = commits_->commit();
    if (!done) ++counters_.failed_writes;
    return done;
}

Result<> Overlay::flush() {
    ++counters_.flushes;
    return finish({}, true);
}

Tier& Overlay::tier(Kind kind) const {
    Tier* tier = kind == Kind::Memory ? static_cast<Tier*>(memory_.get()) : disk_.get();
    THAW_INVARIANT(tier != nullptr);
    return *tier;
}

bool Overlay::writable(Location location) const {
    return location.has_slot() && !tier(location.kind).pinned(location.slot);
}

// The map last: until then the blocks' old content is what everybody sees.
void Overlay::change(std::uint64_t block, std::uint32_t count, Location location) {
    const auto retire = [this](Location old, std::uint32_t n) {
        if (!old.has_slot()) return;
        if (commits_)
            commits_->note_idle({.first = old.slot, .count = n});
        else
            tier(old.kind).retire({.first = old.slot, .count = n});
    };
    Location old = map_.get(block);
    std::uint32_t same = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        const Location now = map_.get(block + i);
        if (now != old.plus(same)) {
            retire(std::exchange(old, now), std::exchange(same, 0));
        }
        map_.set(block + i, location.plus(i));
        ++same;
    }
    if (commits_) commits_->note({.block = block, .count = count, .location = location});
    retire(old, same);
}

Result<Point> Overlay::take_point() {
    if (point_held_.exchange(true)) return fail(EBUSY, "another point is held");
    const std::unique_lock closed(gate_);
    auto runs = map_.runs();
    if (memory_) memory_->pin();
    if (disk_) disk_->pin();
    return Point(*this, std::move(runs), ++counters_.points);
}

void Overlay::end_point() {
    std::vector<SlotRun> memory;
    std::vector<SlotRun> disk;
    {
        const std::unique_lock closed(gate_);
        if (memory_) memory = memory_->unpin();
        if (disk_) disk = disk_->unpin();
    }
    if (memory_) memory_->reclaim(memory);
    if (disk_) disk_->reclaim(disk);
    point_held_ = false;
}

Point::~Point() {
    if (overlay_ != nullptr) overlay_->end_point();
}

int Overlay::descriptor(Kind kind) const {
    if (kind == Kind::Memory && memory_) return memory_->descriptor();
    if (kind == Kind::Disk && disk_) return disk_->descriptor();
    return -1;
}

void Overlay::allow_growth(bool on) {
    if (disk_) disk_->allow_growth(on);
}

OverlayStatus Overlay::status() const {
    return {
        .dirty_blocks = map_.dirty(),
        .zero_blocks = map_.zeros(),
        .memory_used = memory_ ? memory_->used() : 0,
        .disk_used = disk_ ? disk_->used() : 0,
        .spilled = disk_ ? disk_->written() : 0,
        .points = counters_.points,
        .point_held = point_held_,
        .reads = counters_.reads,
        .read_bytes = counters_.read_bytes,
        .writes = counters_.writes,
        .written_bytes = counters_.written_bytes,
        .flushes = counters_.flushes,
        .failed_reads = counters_.failed_reads,
        .failed_writes = counters_.failed_writes,
    };
}

} // namespace thaw::rootfs
