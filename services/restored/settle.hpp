// SPDX-License-Identifier: MIT
#pragma once

// When a recording is complete: a guest that was woken touches its working set in a burst, and what
// comes after the burst is not worth reading ahead. Pure decisions on literal values.

#include "core/text.hpp"

#include <cstdint>
#include <optional>

namespace thaw::restore {

// How often the fault counter is looked at.
inline constexpr Microseconds kSettleTick = 100 * kUsecPerMsec;
// A guest that has not run for so long may still have its burst before it.
inline constexpr Microseconds kSettleAtLeast = 500 * kUsecPerMsec;
// So many quiet ticks in a row end the recording.
inline constexpr unsigned kSettleQuietTicks = 3;
// A tick is quiet with at most this many faults, or with at most this share of the busiest tick: an
// idle guest's timers go on touching a page now and then.
inline constexpr std::uint64_t kQuietFaults = 4;
inline constexpr std::uint64_t kQuietShare = 50; // one in so many

class SettleDetector {
public:
    enum class Verdict {
        Waiting,
        Settled, // the fault rate has converged
        Capped,  // it has not within the limit: kept, but marked
        Idle,    // not a single fault within the limit: there is nothing to keep
    };
    // `began`: when the guest was resumed; `limit`: RecordMaxSec=.
    SettleDetector(Microseconds began, Microseconds limit) : began_(began), limit_(limit) {}
    // `faults`: how many were served since the session began; nothing when nobody could tell. Call
    // it every kSettleTick; after a longer gap the faults count as one tick's.
    Verdict observe(Microseconds now, std::optional<std::uint64_t> faults);

private:
    Microseconds began_;
    Microseconds limit_;
    std::uint64_t last_ = 0;
    std::uint64_t busiest_ = 0;
    unsigned quiet_ = 0;
};

} // namespace thaw::restore
