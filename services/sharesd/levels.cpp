// SPDX-License-Identifier: MIT
#include "levels.hpp"

#include <algorithm>
#include <array>

namespace thaw::sharesd {

namespace {

constexpr std::uint64_t kPercent = 100;
constexpr std::uint64_t kHysteresis = 5; // percent points
struct Step {
    Level level;
    std::uint64_t percent;
};
constexpr std::array kSteps{
    Step{Level::Elevated, 60}, Step{Level::High, 80}, Step{Level::Critical, 95}
};

// Measured at 15000 inodes a second over one queue; twice that leaves room for a faster machine.
constexpr std::uint64_t kFastestWalk = 30000;
constexpr Microseconds kCostShare = 50; // 1/50 of a CPU

// The use at which a level begins. No overflow: budgets are far below 2^57.
std::uint64_t part_of(std::uint64_t budget, std::uint64_t percent) {
    if (budget > UINT64_MAX / kPercent) return budget / kPercent * percent;
    return (budget * percent + kPercent - 1) / kPercent;
}

} // namespace

Level next_level(Level now, std::optional<std::uint64_t> used, std::uint64_t budget) {
    if (!used) return Level::Unknown;
    if (budget == kInfinity) return Level::Normal;
    Level level = Level::Normal;
    for (const auto& step : kSteps) {
        const bool held = now != Level::Unknown && now >= step.level;
        const auto percent = held ? step.percent - kHysteresis : step.percent;
        if (*used >= part_of(budget, percent)) level = step.level;
    }
    return level;
}

std::vector<Level> levels_between(Level from, Level to) {
    if (from == to) return {};
    std::vector<Level> passed;
    if (from < to && to != Level::Unknown)
        for (const auto& step : kSteps)
            if (step.level > from && step.level < to) passed.push_back(step.level);
    passed.push_back(to);
    return passed;
}

std::uint64_t next_threshold(Level now, std::uint64_t budget) {
    if (now != Level::Unknown)
        for (const auto& step : kSteps)
            if (step.level > now) return part_of(budget, step.percent);
    return budget;
}

Microseconds forecast(std::span<const Sample> samples, std::uint64_t budget) {
    if (samples.size() < 2 || budget == kInfinity) return kInfinity;
    const auto& last = samples.back();
    if (last.used >= budget) return 0;
    const auto first = std::ranges::find_if(samples, [&](const Sample& sample) {
        return last.when - sample.when <= kForecastWindow;
    });
    // A lone sample of the window: the one before it is all there is to compare with.
    const auto& base = &*first == &last ? samples[samples.size() - 2] : *first;
    if (last.used <= base.used || last.when <= base.when) return kInfinity;
    const double rate =
        static_cast<double>(last.used - base.used) / static_cast<double>(last.when - base.when);
    const double left = static_cast<double>(budget - last.used) / rate;
    if (last.when - base.when < kForecastLeast && left > static_cast<double>(kForecastLeast))
        return kInfinity;
    constexpr double kFar = 1e15; // 31 years
    return left < kFar ? static_cast<Microseconds>(left) : kInfinity;
}

Microseconds
next_poll(Level now, std::optional<std::uint64_t> used, std::uint64_t budget, Microseconds cost) {
    Microseconds interval = kLongestPoll;
    if (used && budget != kInfinity) {
        const auto threshold = next_threshold(now, budget);
        const auto room = threshold > *used ? threshold - *used : 0;
        // Half of the time the fastest guest would take: seen before and after the threshold.
        if (room < kFastestWalk * 2 * kLongestPoll / kUsecPerSec)
            interval = room * kUsecPerSec / kFastestWalk / 2;
    }
    return std::max(std::clamp(interval, kShortestPoll, kLongestPoll), cost * kCostShare);
}

std::vector<std::string> remedies(const RemedyQuestion& question) {
    const auto is_short = [](Level level) {
        return level != Level::Normal && level != Level::Unknown;
    };
    std::vector<std::string> words;
    if (question.can_drop_caches && (is_short(question.descriptors) || is_short(question.memory)))
        words.emplace_back("drop-caches");
    if (!is_short(question.descriptors)) return words;
    if (!question.uses_handles && question.handles_possible)
        words.emplace_back("file-handles-at-next-start");
    if (question.limit_can_rise)
        words.emplace_back(question.rises_live ? "raise-limit" : "restart-with-more");
    return words;
}

} // namespace thaw::sharesd
