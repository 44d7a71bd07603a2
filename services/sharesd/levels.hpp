// SPDX-License-Identifier: MIT
#pragma once

// What numbers mean: how much of a budget is used, when it will be used up, and when to look next.
// Pure decisions.

#include "core/enum_table.hpp"
#include "core/text.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace thaw::sharesd {

// In rising order; Unknown is worse than all: nobody looks.
enum class Level { Normal, Elevated, High, Critical, Unknown };
inline constexpr EnumTable kLevelNames{std::array{
    std::pair{Level::Normal, std::string_view("normal")},
    std::pair{Level::Elevated, std::string_view("elevated")},
    std::pair{Level::High, std::string_view("high")},
    std::pair{Level::Critical, std::string_view("critical")},
    std::pair{Level::Unknown, std::string_view("unknown")},
}};

// Entered at 60, 80 and 95 % of the budget, left 5 percent points below: a share that hovers at a
// threshold is reported once. `used` without a value is Unknown, never a zero. A budget of
// kInfinity is never used up, one of 0 always is.
Level next_level(Level now, std::optional<std::uint64_t> used, std::uint64_t budget);
// The levels passed on the way from one to the other, in order, without `from`.
std::vector<Level> levels_between(Level from, Level to);
// Where the next higher level begins; the whole budget when there is none.
std::uint64_t next_threshold(Level now, std::uint64_t budget);

struct Sample {
    Microseconds when = 0; // monotonic
    std::uint64_t used = 0;
};
// Time until `budget` is used up at the rate of the last kForecastWindow, kInfinity when it is not
// in sight. `samples` rise in time. A guest opens files in bursts: what was seen for less than
// kForecastLeast tells of no longer time than that.
inline constexpr Microseconds kForecastWindow = 5 * kUsecPerSec;
inline constexpr Microseconds kForecastLeast = kUsecPerSec;
Microseconds forecast(std::span<const Sample> samples, std::uint64_t budget);

// When to count again: early enough that no level is passed unseen even by a guest that walks a
// tree as fast as it can, and seldom enough that counting costs at most 2 % of a CPU. `cost` is the
// time on a CPU that the last count took.
inline constexpr Microseconds kShortestPoll = 50 * kUsecPerMsec;
inline constexpr Microseconds kLongestPoll = 2 * kUsecPerSec;
Microseconds
next_poll(Level now, std::optional<std::uint64_t> used, std::uint64_t budget, Microseconds cost);

// What may help, the gentlest first (Share.Remedies).
struct RemedyQuestion {
    Level descriptors = Level::Normal;
    Level memory = Level::Normal;
    bool can_drop_caches = false; // a hook is configured
    bool uses_handles = false;
    bool handles_possible = false;
    bool limit_can_rise = false; // below fs.nr_open
    bool rises_live = false;     // the daemon notices a limit that was raised
};
std::vector<std::string> remedies(const RemedyQuestion& question);

} // namespace thaw::sharesd
