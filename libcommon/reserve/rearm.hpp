// SPDX-License-Identifier: MIT
#pragma once

// When an absent chunk comes back. Pure decision with hysteresis in space and in time; the first
// arming obeys it as well. The owner of a volume calls it at every look and lays at most one chunk
// per look, so that a release in between is seen.

#include "core/enum_table.hpp"
#include "core/text.hpp"
#include "reserve/measure.hpp"

#include <array>
#include <cstdint>
#include <optional>

namespace thaw::reserve {

struct RearmPolicy {
    // Room is: available >= factor * missing bytes (and free inodes >= factor * missing chunks).
    std::uint64_t factor = 2;
    // How long there must have been room without a break.
    Microseconds dwell = 30 * kUsecPerSec;
};

// What is remembered between two looks, in memory only: a restart begins to count anew.
struct RearmClock {
    std::optional<Microseconds> roomy_since; // CLOCK_MONOTONIC
    std::uint64_t last_missing = 0;
};

enum class RearmAction {
    None,     // nothing is missing
    Deferred, // no room
    Waiting,  // room, but not for long enough; look again after `wait`
    Lay,      // lay one chunk now
};
inline constexpr EnumTable kRearmActionNames{std::array{
    std::pair{RearmAction::None, std::string_view("none")},
    std::pair{RearmAction::Deferred, std::string_view("deferred")},
    std::pair{RearmAction::Waiting, std::string_view("waiting")},
    std::pair{RearmAction::Lay, std::string_view("lay")},
}};

struct RearmDecision {
    RearmAction action = RearmAction::None;
    std::uint64_t free = 0;      // available bytes
    std::uint64_t needed = 0;    // missing bytes
    std::uint64_t threshold = 0; // factor * needed
    bool inodes_short = false;   // Deferred for want of inodes, not bytes
    Microseconds wait = 0;       // when Waiting
};

// Updates `clock`. More missing than at the last look is a release by somebody: the time starts
// anew. When nothing but this owner lays chunks, a dwell that has passed covers all of them.
RearmDecision decide_rearm(
    const RearmPolicy& policy, const Measurement& measured, Microseconds now, RearmClock& clock
);

// What healing does to a chunk. Absent chunks are the re-arm rule's; shared and compressed ones
// only a person can cure (a copy would cost the same bytes again at every snapshot).
enum class HealAction {
    None,
    Refill,   // allocate the holes or the missing end in place
    Replace,  // lay a new one and rename it over
    CutBack,  // truncate to the planned length, or remove a surplus chunk
    Restrict, // owner and mode
    Rewrite,  // overwrite in place with incompressible bytes
};
HealAction heal_action(ChunkHealth health);
bool needs_healing(const Measurement& measured);

} // namespace thaw::reserve
