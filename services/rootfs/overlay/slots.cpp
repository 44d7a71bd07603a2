// SPDX-License-Identifier: MIT
#include "overlay/slots.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace thaw::rootfs {

void Slots::mark(SlotRun run, bool on) {
    if (taken_.size() * 64 < std::size_t{run.first} + run.count)
        taken_.resize((std::size_t{run.first} + run.count + 63) / 64);
    for (std::uint32_t slot = run.first; slot < run.first + run.count; ++slot) {
        const std::uint64_t bit = std::uint64_t{1} << slot % 64;
        if (on)
            taken_[slot / 64] |= bit;
        else
            taken_[slot / 64] &= ~bit;
    }
    if (on)
        used_ += run.count;
    else
        used_ -= run.count;
}

// The first free ones from the cursor on; there is one.
SlotRun Slots::find(std::uint32_t want) const {
    const std::size_t words = (std::size_t{fresh_} + 63) / 64;
    for (std::size_t step = 0; step <= words; ++step) {
        const std::size_t index = (cursor_ / 64 + step) % words;
        const std::uint64_t free = ~taken_[index];
        const auto slot = static_cast<std::uint32_t>(index * 64 + std::countr_zero(free));
        if (free == 0 || slot >= fresh_) continue;
        std::uint32_t count = 1;
        while (count < want && slot + count < fresh_ && !taken(slot + count))
            ++count;
        return {.first = slot, .count = count};
    }
    return {};
}

SlotRun Slots::take(std::uint32_t want) {
    const std::lock_guard lock(mutex_);
    SlotRun run;
    // Used ones first: a file does not grow while it has room.
    if (fresh_ > used_) run = find(want);
    if (run.count == 0) {
        run = {.first = fresh_, .count = std::min(want, capacity_ - fresh_)};
        if (run.count == 0) return {};
    }
    mark(run, true);
    fresh_ = std::max(fresh_, run.first + run.count);
    cursor_ = run.first + run.count;
    return run;
}

bool Slots::take_exactly(SlotRun run) {
    const std::lock_guard lock(mutex_);
    if (run.first >= capacity_ || run.count > capacity_ - run.first) return false;
    for (std::uint32_t slot = run.first; slot < std::min(fresh_, run.first + run.count); ++slot)
        if (taken(slot)) return false;
    mark(run, true);
    fresh_ = std::max(fresh_, run.first + run.count);
    return true;
}

std::vector<SlotRun> Slots::retire(SlotRun run) {
    std::vector<SlotRun> idle;
    for (std::uint32_t i = 0; i < run.count;) {
        const bool kept = pinned(run.first + i);
        SlotRun part{.first = run.first + i, .count = 1};
        while (i + part.count < run.count && pinned(run.first + i + part.count) == kept)
            ++part.count;
        i += part.count;
        if (!kept) {
            idle.push_back(part);
            continue;
        }
        const std::lock_guard lock(mutex_);
        waiting_.push_back(part);
    }
    return idle;
}

void Slots::free(SlotRun run) {
    const std::lock_guard lock(mutex_);
    mark(run, false);
}

void Slots::pin() {
    const std::lock_guard lock(mutex_);
    pinned_ = taken_;
}

std::vector<SlotRun> Slots::unpin() {
    const std::lock_guard lock(mutex_);
    pinned_ = {};
    return std::exchange(waiting_, {});
}

std::uint32_t Slots::capacity() const {
    const std::lock_guard lock(mutex_);
    return capacity_;
}

void Slots::grow(std::uint32_t capacity) {
    const std::lock_guard lock(mutex_);
    capacity_ = std::max(capacity_, capacity);
}

std::uint32_t Slots::used() const {
    const std::lock_guard lock(mutex_);
    return used_;
}

} // namespace thaw::rootfs
