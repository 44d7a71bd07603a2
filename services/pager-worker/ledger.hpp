// SPDX-License-Identifier: MIT
#pragma once

// What is known of each page and what was done: the present bitmap, the touch log of a recording,
// the counters by kind. One writer, the holder of the session's lock.

#include "fill_decision.hpp"
#include "protocol/session_memory.hpp"
#include "region_map.hpp"

#include <atomic>
#include <cstdint>
#include <vector>

namespace thaw::worker {

// The counters have one writer: no need for a locked add.
inline void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

// Why a page is installed.
enum class Cause { Demand, Replay, Populate };

class Ledger {
public:
    explicit Ledger(protocol::SessionMemory& memory)
        : memory_(memory), counters_(memory.counters()),
          recording_((memory.info().flags & protocol::kFlagRecording) != 0) {}

    // The kernel took the pages from us. `was_removed`: as zeros because the guest had given them
    // back.
    void installed(Cause cause, FillKind kind, BitRange pages, bool was_removed);
    // They were there already. `asked`: a fault had been read for them.
    void found(BitRange pages, bool asked);
    // The guest gave them back.
    void removed(BitRange pages);
    // Replay met pages that need nothing any more.
    void skipped(std::uint64_t pages) { bump(counters_.replay_late, pages); }
    // From now on replayed pages are remembered one by one.
    void begin_replay();

private:
    bool is_replayed(std::uint64_t page) const {
        return page / 64 < replayed_.size() && (replayed_[page / 64] >> (page % 64) & 1) != 0;
    }

    protocol::SessionMemory& memory_;
    protocol::SessionCounters& counters_;
    bool recording_;
    std::vector<std::uint64_t> replayed_; // bits, this worker's only; empty without replay
};

} // namespace thaw::worker
