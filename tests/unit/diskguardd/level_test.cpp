// SPDX-License-Identifier: MIT
#include "level_policy.hpp"
#include "reserve/plan.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace thaw::diskguard {
namespace {

using reserve::kMiB;
constexpr std::uint64_t kGiB = 1 << 30;
constexpr std::uint64_t kMargin = 25;
// The defaults' shape: 10 % and 10 GiB, 5 % and 2 GiB, 1 % and 256 MiB.
constexpr Thresholds kUsual{{10 * kGiB, 1000}, {2 * kGiB, 500}, {256 * kMiB, 100}};

Level at(std::uint64_t total, std::uint64_t free) {
    return level_of({total, free}, kUsual);
}

TEST(Levels, BothConditionsMustHold) {
    // 5 % of 4 TiB are 200 GiB: a small share, and plenty.
    EXPECT_EQ(at(4096 * kGiB, 200 * kGiB), Level::Normal);
    EXPECT_EQ(at(4096 * kGiB, 10 * kGiB), Level::Normal);
    EXPECT_EQ(at(4096 * kGiB, 10 * kGiB - 1), Level::Low);
    EXPECT_EQ(at(4096 * kGiB, 2 * kGiB - 1), Level::Critical);
    EXPECT_EQ(at(4096 * kGiB, 256 * kMiB - 1), Level::Full);
    // 1 GiB on a 4 GiB volume is little, and a quarter.
    EXPECT_EQ(at(4 * kGiB, kGiB), Level::Normal);
    EXPECT_EQ(at(1000 * kMiB, 100 * kMiB), Level::Normal);
    EXPECT_EQ(at(1000 * kMiB, 100 * kMiB - 1), Level::Low);
    EXPECT_EQ(at(1000 * kMiB, 50 * kMiB - 1), Level::Critical);
    EXPECT_EQ(at(1000 * kMiB, 10 * kMiB - 1), Level::Full);
}

TEST(Levels, NothingFreeIsFullWhateverTheThresholds) {
    EXPECT_EQ(level_of({kGiB, 0}, Thresholds{}), Level::Full);
    EXPECT_EQ(level_of({kGiB, 1}, Thresholds{}), Level::Normal);
}

TEST(Levels, AnUncountedAxisIsNormal) {
    EXPECT_EQ(at(0, 0), Level::Normal);
}

TEST(Levels, HugeVolumesDoNotOverflow) {
    const auto exabytes = std::uint64_t{16} << 60;
    EXPECT_EQ(boundary({UINT64_MAX, 5000}, UINT64_MAX), UINT64_MAX / 2);
    EXPECT_EQ(at(UINT64_MAX, exabytes), Level::Full);
    EXPECT_EQ(at(UINT64_MAX, UINT64_MAX / 2), Level::Normal);
}

TEST(Levels, WorseAtOnceBetterByTheMargin) {
    const auto next = [](Level current, std::uint64_t free) {
        return next_level(current, {1000 * kMiB, free}, kUsual, kMargin);
    };
    EXPECT_EQ(next(Level::Normal, 5 * kMiB), Level::Full);
    // full begins below 10 MiB and ends at 12.5 MiB.
    EXPECT_EQ(next(Level::Full, 10 * kMiB), Level::Full);
    EXPECT_EQ(next(Level::Full, 12 * kMiB), Level::Full);
    EXPECT_EQ(next(Level::Full, 13 * kMiB), Level::Critical);
    // critical ends at 62.5 MiB, low at 125 MiB: each boundary on the way has its own margin.
    EXPECT_EQ(next(Level::Full, 60 * kMiB), Level::Critical);
    EXPECT_EQ(next(Level::Full, 110 * kMiB), Level::Low);
    EXPECT_EQ(next(Level::Full, 126 * kMiB), Level::Normal);
    EXPECT_EQ(next(Level::Unknown, 60 * kMiB), Level::Low);
}

TEST(Levels, BetterOnlyAfterItHasSettled) {
    LevelTracker tracker;
    const auto look = [&](Microseconds seconds, std::uint64_t free) {
        return tracker.observe(
            seconds * kUsecPerSec, {1000 * kMiB, free}, kUsual, kMargin, 10 * kUsecPerSec
        );
    };
    EXPECT_EQ(look(0, 500 * kMiB), Level::Normal);
    EXPECT_EQ(look(1, 1 * kMiB), Level::Full);
    EXPECT_EQ(look(2, 500 * kMiB), Level::Full);
    EXPECT_EQ(look(11, 500 * kMiB), Level::Full);
    // A relapse starts the wait again.
    EXPECT_EQ(look(11, 1 * kMiB), Level::Full);
    EXPECT_EQ(look(13, 500 * kMiB), Level::Full);
    EXPECT_EQ(look(22, 500 * kMiB), Level::Full);
    EXPECT_EQ(look(23, 500 * kMiB), Level::Normal);
}

TEST(Growth, RateAndTimeToFull) {
    GrowthRate rate;
    EXPECT_EQ(rate.time_to_full(kGiB), kInfinity);
    auto free = 100 * kGiB;
    for (Microseconds second = 0; second < 600; ++second) {
        rate.observe(second * kUsecPerSec, free);
        free -= 10 * kMiB;
    }
    EXPECT_NEAR(static_cast<double>(rate.bytes_per_second()), 10 * kMiB, kMiB / 100.0);
    EXPECT_NEAR(static_cast<double>(rate.time_to_full(10 * kGiB)) / kUsecPerSec, 1024, 2);
    // Space that came back by our own release is nobody's growth.
    rate.forget();
    rate.observe(601 * kUsecPerSec, free + kGiB);
    EXPECT_NEAR(static_cast<double>(rate.bytes_per_second()), 10 * kMiB, kMiB / 100.0);
}

TEST(Growth, TheIntervalDoesNotMatter) {
    GrowthRate often;
    GrowthRate seldom;
    for (Microseconds second = 0; second <= 120; ++second)
        often.observe(second * kUsecPerSec, 100 * kGiB - second * kMiB);
    for (Microseconds second = 0; second <= 120; second += 30)
        seldom.observe(second * kUsecPerSec, 100 * kGiB - second * kMiB);
    EXPECT_NEAR(
        static_cast<double>(often.bytes_per_second()),
        static_cast<double>(seldom.bytes_per_second()), kMiB / 1000.0
    );
}

TEST(Growth, AVolumeThatEmptiesIsNeverFull) {
    GrowthRate rate;
    rate.observe(0, kGiB);
    rate.observe(10 * kUsecPerSec, 2 * kGiB);
    EXPECT_LT(rate.bytes_per_second(), 0);
    EXPECT_EQ(rate.time_to_full(kGiB), kInfinity);
}

TEST(Polling, SlowFarAwayOneSecondNear) {
    const PollLimits limits;
    EXPECT_EQ(next_poll(500 * kGiB, 0, 0, limits), 60 * kUsecPerSec);
    EXPECT_EQ(next_poll(20 * kGiB, 0, 0, limits), 20 * kUsecPerSec);
    EXPECT_EQ(next_poll(100 * kMiB, 0, 0, limits), kUsecPerSec);
    EXPECT_EQ(next_poll(0, 0, 0, limits), kUsecPerSec);
    // Faster than the burst that is reckoned with anyway: four looks before the next level.
    EXPECT_EQ(
        next_poll(80 * kGiB, 2 * static_cast<std::int64_t>(kGiB), 0, limits), 10 * kUsecPerSec
    );
    EXPECT_EQ(next_poll(UINT64_MAX, INT64_MAX, 0, limits), kUsecPerSec);
    EXPECT_EQ(next_poll(UINT64_MAX, -5, 0, limits), 60 * kUsecPerSec);
}

TEST(Polling, AVolumeNobodyWritesToIsLookedAtLessOften) {
    const PollLimits limits;
    std::vector<Microseconds> waits;
    for (std::uint64_t still = 0; still < 10; ++still)
        waits.push_back(next_poll(0, 0, still, limits) / kUsecPerSec);
    EXPECT_EQ(waits, (std::vector<Microseconds>{1, 1, 1, 1, 2, 4, 8, 10, 10, 10}));
    EXPECT_EQ(next_poll(500 * kGiB, 0, 100, limits), 60 * kUsecPerSec);
}

TEST(Polling, DistanceToTheNextWorseLevel) {
    const auto distance = [](Level level, std::uint64_t free) {
        return distance_to_worse(level, {1000 * kMiB, free}, kUsual);
    };
    EXPECT_EQ(distance(Level::Normal, 300 * kMiB), 200 * kMiB);
    EXPECT_EQ(distance(Level::Unknown, 300 * kMiB), 200 * kMiB);
    EXPECT_EQ(distance(Level::Low, 80 * kMiB), 30 * kMiB);
    EXPECT_EQ(distance(Level::Critical, 30 * kMiB), 20 * kMiB);
    EXPECT_EQ(distance(Level::Critical, 5 * kMiB), 0U);
    EXPECT_EQ(distance(Level::Full, 5 * kMiB), 0U);
}

TEST(Promises, AreTakenFromWhatIsMeasured) {
    EXPECT_EQ(available(100, 30), 70U);
    EXPECT_EQ(available(30, 100), 0U);
}

} // namespace
} // namespace thaw::diskguard
