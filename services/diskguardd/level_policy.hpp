// SPDX-License-Identifier: MIT
#pragma once

// How full a volume is, when to look again, and how long it will last: pure decisions on literal
// values. Sizes are bytes (or inodes), times are µs of CLOCK_MONOTONIC.

#include "api/diskguard1.hpp"
#include "core/text.hpp"

#include <cstdint>
#include <optional>

namespace thaw::diskguard {

using diskguard1::Level;

// ---- levels ------------------------------------------------------------------------------------

// A level begins when less is free than `amount` AND less than `permyriad` of the whole: a small
// share of a huge disk is no reason to worry, nor is a small amount on a tiny one that is empty.
struct Threshold {
    std::uint64_t amount = 0;
    std::uint64_t permyriad = 0; // hundredths of a percent
    bool operator==(const Threshold&) const = default;
};
// What is below has the level; `margin` percent more must be free to leave it again.
struct Thresholds {
    Threshold low;
    Threshold critical;
    Threshold full;
    const Threshold& of(Level level) const;
    bool operator==(const Thresholds&) const = default;
};

// One axis, as measured. total 0: the file system does not count it (inodes on btrfs).
struct Room {
    std::uint64_t total = 0;
    std::uint64_t free = 0;
    bool operator==(const Room&) const = default;
};

// The amount below which `room` has at least `level`: the smaller of both conditions.
std::uint64_t boundary(const Threshold& threshold, std::uint64_t total);
// Without memory: what `room` is by the thresholds alone.
Level level_of(const Room& room, const Thresholds& thresholds);
// With memory of the level so far: worse at once, better only `margin_percent` above the boundary.
Level next_level(
    Level current, const Room& room, const Thresholds& thresholds, std::uint64_t margin_percent
);

// Adds hysteresis in time: a better level must hold for `settle` before it counts.
class LevelTracker {
public:
    // The level after this measurement.
    Level observe(
        Microseconds now, const Room& room, const Thresholds& thresholds,
        std::uint64_t margin_percent, Microseconds settle
    );
    Level level() const { return level_; }

private:
    Level level_ = Level::Unknown;
    std::optional<Microseconds> better_since_;
};

// ---- growth ------------------------------------------------------------------------------------

// How fast free space goes, as a moving average over about a minute. Positive: the volume fills.
class GrowthRate {
public:
    void observe(Microseconds now, std::uint64_t free);
    // A release or a re-arm moved this many bytes: no growth of anybody's.
    void forget();
    std::int64_t bytes_per_second() const;
    // kInfinity when the volume does not fill.
    Microseconds time_to_full(std::uint64_t free) const;

private:
    std::optional<Microseconds> last_time_;
    std::uint64_t last_free_ = 0;
    double rate_ = 0;
};

// ---- polling -----------------------------------------------------------------------------------

struct PollLimits {
    Microseconds fastest = kUsecPerSec;
    Microseconds idle = 10 * kUsecPerSec; // a volume that nobody writes to, near or far
    Microseconds slowest = 60 * kUsecPerSec;
    bool operator==(const PollLimits&) const = default;
};
// What no volume of today fills faster than, in bytes per second.
inline constexpr std::uint64_t kBurst = 1ULL << 30;

// When to look again. `distance`: bytes until the next worse level; `rate`: as measured; `still`:
// measurements in a row that found nothing changed.
Microseconds
next_poll(std::uint64_t distance, std::int64_t rate, std::uint64_t still, const PollLimits& limits);
// Bytes until the next worse level; 0 at the worst.
std::uint64_t distance_to_worse(Level level, const Room& bytes, const Thresholds& thresholds);

// ---- promises ----------------------------------------------------------------------------------

// What may still be promised. The reserve is no free space, and thus never promised.
std::uint64_t available(std::uint64_t free, std::uint64_t promised);

} // namespace thaw::diskguard
