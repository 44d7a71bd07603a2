// SPDX-License-Identifier: MIT
#include "level_policy.hpp"

#include <algorithm>
#include <cmath>

namespace thaw::diskguard {

namespace {

constexpr std::uint64_t kWhole = 10000; // permyriad
constexpr std::uint64_t kPercent = 100;
constexpr double kRateWindow = 60; // seconds
// Below it a volume does not fill, it breathes.
constexpr double kLeastRate = 1024;
// After this many measurements without a change the interval grows.
constexpr std::uint64_t kStillEnough = 3;
constexpr std::uint64_t kMostDoublings = 16;

constexpr std::array kWorstFirst{Level::Full, Level::Critical, Level::Low};

__extension__ using Wide = unsigned __int128; // a product of two sizes

std::uint64_t share(std::uint64_t total, std::uint64_t parts, std::uint64_t whole) {
    const auto part = static_cast<Wide>(total) * parts / whole;
    return part > UINT64_MAX ? UINT64_MAX : static_cast<std::uint64_t>(part);
}

Level worse(Level a, Level b) {
    return std::max(a, b);
}

} // namespace

const Threshold& Thresholds::of(Level level) const {
    if (level == Level::Full) return full;
    if (level == Level::Critical) return critical;
    return low;
}

std::uint64_t boundary(const Threshold& threshold, std::uint64_t total) {
    return std::min(threshold.amount, share(total, threshold.permyriad, kWhole));
}

Level level_of(const Room& room, const Thresholds& thresholds) {
    if (room.total == 0) return Level::Normal;
    for (const auto level : kWorstFirst) {
        const auto limit = boundary(thresholds.of(level), room.total);
        // Nothing at all is full, however the thresholds are set.
        if (room.free < limit || (level == Level::Full && room.free == 0)) return level;
    }
    return Level::Normal;
}

Level next_level(
    Level current, const Room& room, const Thresholds& thresholds, std::uint64_t margin_percent
) {
    const auto plain = level_of(room, thresholds);
    if (plain >= current || current == Level::Unknown) return plain;
    // Each level that is left must be left by the margin.
    for (const auto level : kWorstFirst) {
        if (level > current || level <= plain) continue;
        const auto limit = boundary(thresholds.of(level), room.total);
        if (room.free < limit + share(limit, margin_percent, kPercent)) return level;
    }
    return plain;
}

Level LevelTracker::observe(
    Microseconds now, const Room& room, const Thresholds& thresholds, std::uint64_t margin_percent,
    Microseconds settle
) {
    const auto next = next_level(level_, room, thresholds, margin_percent);
    if (level_ == Level::Unknown || next >= level_) {
        better_since_.reset();
        level_ = worse(level_, next);
        return level_;
    }
    if (!better_since_) better_since_ = now;
    if (now - *better_since_ >= settle) {
        better_since_.reset();
        level_ = next;
    }
    return level_;
}

void GrowthRate::observe(Microseconds now, std::uint64_t free) {
    if (last_time_ && now > *last_time_) {
        const double seconds =
            static_cast<double>(now - *last_time_) / static_cast<double>(kUsecPerSec);
        const double taken = static_cast<double>(last_free_) - static_cast<double>(free);
        const double weight = 1 - std::exp(-seconds / kRateWindow);
        rate_ += weight * (taken / seconds - rate_);
    }
    last_time_ = now;
    last_free_ = free;
}

void GrowthRate::forget() {
    last_time_.reset();
}

std::int64_t GrowthRate::bytes_per_second() const {
    return std::llround(rate_);
}

Microseconds GrowthRate::time_to_full(std::uint64_t free) const {
    if (rate_ < kLeastRate) return kInfinity;
    const double seconds = static_cast<double>(free) / rate_;
    constexpr double kCentury = 100.0 * 365 * 24 * 3600;
    if (seconds > kCentury) return kInfinity;
    return static_cast<Microseconds>(seconds * static_cast<double>(kUsecPerSec));
}

Microseconds next_poll(
    std::uint64_t distance, std::int64_t rate, std::uint64_t still, const PollLimits& limits
) {
    // Four looks before the next level at the present speed, and none too late for a burst.
    const auto present = rate > 0 ? 4 * static_cast<std::uint64_t>(rate) : 0;
    const auto speed = std::max(kBurst, present);
    auto wait = std::clamp(share(distance, kUsecPerSec, speed), limits.fastest, limits.slowest);
    if (still > kStillEnough && wait < limits.idle) {
        const auto doublings = std::min(still - kStillEnough, kMostDoublings);
        wait = std::min(limits.idle, wait << doublings);
    }
    return wait;
}

std::uint64_t distance_to_worse(Level level, const Room& bytes, const Thresholds& thresholds) {
    const auto next = level == Level::Full       ? std::nullopt
                      : level == Level::Critical ? std::optional(Level::Full)
                      : level == Level::Low      ? std::optional(Level::Critical)
                                                 : std::optional(Level::Low);
    if (!next) return 0;
    const auto limit = boundary(thresholds.of(*next), bytes.total);
    return bytes.free > limit ? bytes.free - limit : 0;
}

std::uint64_t available(std::uint64_t free, std::uint64_t promised) {
    return free > promised ? free - promised : 0;
}

} // namespace thaw::diskguard
