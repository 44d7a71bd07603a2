// SPDX-License-Identifier: MIT
#include "overlay/tier.hpp"

#include "core/file.hpp"
#include "core/memfd.hpp"
#include "overlay/block_map.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

namespace thaw::rootfs {

namespace {

constexpr std::uint64_t byte_of(std::uint32_t slot) {
    return std::uint64_t{slot} << kBlockShift;
}

constexpr std::uint32_t slots_in(std::uint64_t bytes) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes >> kBlockShift, kMaxSlots));
}

// The file grows in steps: fewer calls, longer extents.
constexpr std::uint32_t kGrowStep = slots_in(64 << 20);
// Less is given back only when the block is written again: a hole per block would cost the file
// system more than the block.
constexpr std::uint32_t kPunchMin = 16;

} // namespace

void Tier::retire(SlotRun run) {
    reclaim(slots_.retire(run));
}

void Tier::reclaim(const std::vector<SlotRun>& runs) {
    for (const SlotRun run : runs) {
        empty(run);
        slots_.free(run);
    }
}

Result<std::unique_ptr<MemoryTier>> MemoryTier::create(std::uint64_t budget) {
    const std::uint32_t capacity = slots_in(budget);
    THAW_TRY(Fd memfd, make_sized_memfd("thaw-rootfs", byte_of(capacity)));
    return std::make_unique<MemoryTier>(std::move(memfd), capacity);
}

Result<SlotRun> MemoryTier::take(std::uint32_t want) {
    const SlotRun run = slots_.take(want);
    if (run.count == 0) return fail(ENOSPC, "the memory budget of the overlay is used up");
    return run;
}

// pwrite(), not a store: a page that cannot be had is an errno here and a SIGBUS there.
Result<> MemoryTier::write(SlotRun run, std::span<const std::byte> data) {
    return write_exact(memfd_.get(), data, byte_of(run.first));
}

Result<> MemoryTier::read(std::uint64_t offset, std::span<std::byte> out) {
    return pread_exact(memfd_.get(), out, offset);
}

void MemoryTier::empty(SlotRun run) {
    static_cast<void>(::fallocate(
        memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        static_cast<off_t>(byte_of(run.first)), static_cast<off_t>(byte_of(run.count))
    ));
}

DiskTier::DiskTier(std::unique_ptr<StableFile> file, std::uint64_t limit)
    : Tier(0), file_(std::move(file)), limit_(limit == 0 ? kMaxSlots : slots_in(limit)) {}

Result<> DiskTier::load_size() {
    THAW_TRY(const auto size, file_->size());
    slots_.grow(slots_in(size));
    return {};
}

Result<> DiskTier::grow(std::uint32_t want) {
    const std::lock_guard lock(growing_);
    const std::uint32_t capacity = slots_.capacity();
    if (slots_.used() < capacity) return {}; // somebody else was faster
    if (capacity >= limit_) return fail(ENOSPC, "the disk budget of the overlay is used up");
    if (!growth_.load(std::memory_order_relaxed))
        return fail(ENOSPC, "the disk is nearly full: the overlay may not grow");
    const std::uint32_t room = limit_ - capacity;
    auto step = std::min(room, std::max(kGrowStep, want));
    auto reserved = file_->reserve(byte_of(capacity + step));
    if (!reserved && reserved.error().code() == ENOSPC && step > want) {
        step = std::min(room, want);
        reserved = file_->reserve(byte_of(capacity + step));
    }
    THAW_CHECK(std::move(reserved));
    slots_.grow(capacity + step);
    return {};
}

Result<SlotRun> DiskTier::take(std::uint32_t want) {
    for (;;) {
        const SlotRun run = slots_.take(want);
        if (run.count > 0) return run;
        THAW_CHECK(grow(want));
    }
}

Result<> DiskTier::write(SlotRun run, std::span<const std::byte> data) {
    auto result = file_->write(byte_of(run.first), data);
    // Not sooner: a sync that began meanwhile need not have seen it.
    unsynced_.store(true);
    written_.fetch_add(data.size(), std::memory_order_relaxed);
    return result;
}

Result<> DiskTier::read(std::uint64_t offset, std::span<std::byte> out) {
    return file_->read(offset, out);
}

Result<> DiskTier::sync() {
    if (!unsynced_.exchange(false)) return {};
    auto synced = file_->sync();
    if (!synced) unsynced_.store(true);
    return synced;
}

void DiskTier::empty(SlotRun run) {
    if (run.count >= kPunchMin) file_->punch(byte_of(run.first), byte_of(run.count));
}

} // namespace thaw::rootfs
