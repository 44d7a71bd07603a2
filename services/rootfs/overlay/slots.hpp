// SPDX-License-Identifier: MIT
#pragma once

// Which slots of a tier hold a block. A slot of a point stays what it is until the point ends:
// whoever wants to change it takes another one. Thread-safe, but for pin() and unpin(), which need
// every change of the map to be excluded, as pinned() takes no lock.

#include "overlay/geometry.hpp"

#include <mutex>
#include <vector>

namespace thaw::rootfs {

struct SlotRun {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    bool operator==(const SlotRun&) const = default;
};

class Slots {
public:
    explicit Slots(std::uint32_t capacity) : capacity_(capacity) {}

    // At most `want` adjacent slots; count 0 when none is free.
    SlotRun take(std::uint32_t want);
    // Slots that an earlier run of the program used. False when one is taken already or beyond the
    // capacity.
    bool take_exactly(SlotRun run);
    // Nothing points at these slots any more. What no point holds is the caller's to empty and then
    // to free(): not sooner, as the next write may take it. The rest waits for unpin().
    std::vector<SlotRun> retire(SlotRun run);
    void free(SlotRun run);

    void pin();
    // Ends the point. What was retired meanwhile, to empty and free().
    std::vector<SlotRun> unpin();
    bool pinned(std::uint32_t slot) const {
        return slot / 64 < pinned_.size() && (pinned_[slot / 64] >> slot % 64 & 1) != 0;
    }

    std::uint32_t capacity() const;
    void grow(std::uint32_t capacity);
    std::uint32_t used() const;

private:
    bool taken(std::uint32_t slot) const { return (taken_[slot / 64] >> slot % 64 & 1) != 0; }
    void mark(SlotRun run, bool on);
    SlotRun find(std::uint32_t want) const;

    mutable std::mutex mutex_;
    std::uint32_t capacity_;
    std::uint32_t fresh_ = 0; // no slot from here on was ever taken
    std::uint32_t used_ = 0;
    std::uint32_t cursor_ = 0; // where the search among used ones goes on
    std::vector<std::uint64_t> taken_;
    std::vector<std::uint64_t> pinned_;
    std::vector<SlotRun> waiting_; // retired while pinned
};

} // namespace thaw::rootfs
