// SPDX-License-Identifier: MIT
#include "policy.hpp"
#include "session_state.hpp"

#include <gtest/gtest.h>

namespace thaw::pagerd {
namespace {

constexpr Microseconds kSecond = kUsecPerSec;

TEST(SafeMode, SixthStartWithinTenSeconds) {
    std::vector<Microseconds> starts;
    for (Microseconds i = 0; i < 5; ++i) {
        const auto record = record_start(starts, (100 + i) * kSecond, 5, 10 * kSecond);
        EXPECT_FALSE(record.safe_mode) << i;
        starts = record.starts;
    }
    EXPECT_TRUE(record_start(starts, 105 * kSecond, 5, 10 * kSecond).safe_mode);
    EXPECT_TRUE(record_start(starts, 110 * kSecond - 1, 5, 10 * kSecond).safe_mode);
    // The first is ten seconds old then.
    EXPECT_FALSE(record_start(starts, 110 * kSecond, 5, 10 * kSecond).safe_mode);
}

TEST(SafeMode, TimesInTheFutureAreDropped) {
    const std::vector<Microseconds> starts(20, 200 * kSecond);
    const auto record = record_start(starts, 100 * kSecond, 5, 10 * kSecond);
    EXPECT_FALSE(record.safe_mode);
    EXPECT_EQ(record.starts.size(), 1U);
}

TEST(SafeMode, RecordStaysSmall) {
    const std::vector<Microseconds> starts(1000, 100 * kSecond);
    const auto record = record_start(starts, 100 * kSecond, 5, 10 * kSecond);
    EXPECT_TRUE(record.safe_mode);
    EXPECT_LE(record.starts.size(), 7U);
}

TEST(SafeMode, FileOfStartsMayHoldAnything) {
    EXPECT_EQ(
        parse_starts("1\n22\n\nx\n-3\n99999999999999999999999\n 4 \n5"),
        (std::vector<Microseconds>{1, 22, 4, 5})
    );
    EXPECT_EQ(parse_starts(format_starts({7, 8})), (std::vector<Microseconds>{7, 8}));
}

TEST(RestartBudget, FirstAtOnceThenSlowerThenNever) {
    RestartBudget budget(5, 30 * kSecond);
    EXPECT_EQ(budget.lost(1000 * kSecond), Microseconds{0});
    Microseconds before = 0;
    for (int i = 0; i < 4; ++i) {
        const auto delay = budget.lost(1000 * kSecond);
        ASSERT_TRUE(delay);
        EXPECT_GT(*delay, before);
        EXPECT_LE(*delay, kSecond);
        before = *delay;
    }
    EXPECT_FALSE(budget.lost(1000 * kSecond));
    EXPECT_EQ(budget.total(), 6U);
}

TEST(RestartBudget, OldLossesAreForgotten) {
    RestartBudget budget(1, 30 * kSecond);
    EXPECT_EQ(budget.lost(0), Microseconds{0});
    EXPECT_EQ(budget.lost(30 * kSecond), Microseconds{0});
    EXPECT_FALSE(budget.lost(31 * kSecond));
}

TEST(StuckDetector, OldestFault) {
    StuckDetector detector(100 * kSecond, 2 * kSecond);
    FaultSigns signs{.oldest_fault = 101 * kSecond};
    EXPECT_FALSE(detector.observe(103 * kSecond, signs));
    EXPECT_TRUE(detector.observe(103 * kSecond + 1, signs));
    signs.oldest_fault = 0;
    EXPECT_FALSE(detector.observe(200 * kSecond, signs));
    // A lie.
    signs.oldest_fault = UINT64_MAX;
    EXPECT_FALSE(detector.observe(200 * kSecond, signs));
}

TEST(StuckDetector, FaultsOfThePredecessorDoNotCount) {
    StuckDetector detector(100 * kSecond, 2 * kSecond);
    const FaultSigns signs{.oldest_fault = 50 * kSecond};
    EXPECT_FALSE(detector.observe(101 * kSecond, signs));
    EXPECT_TRUE(detector.observe(103 * kSecond, signs));
}

TEST(StuckDetector, SlowSourceHasMorePatienceNotEndless) {
    StuckDetector detector(100 * kSecond, 2 * kSecond);
    FaultSigns signs{.oldest_fault = 101 * kSecond, .slow_source = true};
    for (auto second = 101; second <= 131; ++second, ++signs.heartbeat)
        EXPECT_FALSE(detector.observe(second * kSecond, signs)) << second;
    EXPECT_TRUE(detector.observe(132 * kSecond, signs));
}

// It was stopped while it waited for a read: it says so for ever, and its heart stands still.
TEST(StuckDetector, SlowSourceIsNoExcuseForAHeartThatStandsStill) {
    StuckDetector detector(100 * kSecond, 2 * kSecond);
    const FaultSigns signs{.oldest_fault = 101 * kSecond, .slow_source = true, .heartbeat = 7};
    EXPECT_FALSE(detector.observe(101 * kSecond, signs));
    EXPECT_FALSE(detector.observe(103 * kSecond, signs));
    EXPECT_TRUE(detector.observe(104 * kSecond, signs));
}

TEST(StuckDetector, UnreadMessagesWhileTheHeartStandsStill) {
    StuckDetector detector(100 * kSecond, 2 * kSecond);
    FaultSigns signs{.unread = true, .heartbeat = 7};
    EXPECT_FALSE(detector.observe(101 * kSecond, signs));
    EXPECT_FALSE(detector.observe(103 * kSecond, signs));
    EXPECT_TRUE(detector.observe(103 * kSecond + 1, signs));
    // It turned in between.
    signs.heartbeat = 8;
    EXPECT_FALSE(detector.observe(104 * kSecond, signs));
    // Nothing to read in between.
    signs.unread = false;
    EXPECT_FALSE(detector.observe(105 * kSecond, signs));
    signs.unread = true;
    EXPECT_FALSE(detector.observe(107 * kSecond, signs));
}

TEST(StoreRoom, CountsWhatPresentSessionsMayStillNeed) {
    EXPECT_TRUE(store_has_room(9, 0, 0, 2));
    EXPECT_FALSE(store_has_room(8, 0, 0, 2));
    EXPECT_TRUE(store_has_room(16, 1, 2, 0));
    EXPECT_FALSE(store_has_room(16, 1, 2, 2));
    EXPECT_TRUE(store_has_room(4096, 511, 512, 0));
}

TEST(StopReason, OnlyStopIsFinal) {
    EXPECT_TRUE(is_final_stop("stop"));
    for (const auto* type : {"", "restart", "try-restart", "start", "reload"})
        EXPECT_FALSE(is_final_stop(type)) << type;
}

TEST(SessionState, Transitions) {
    using enum SessionState;
    constexpr std::array all{Listening, Handshaking, Serving, Complete, Failed, Closed};
    for (const auto from : all) {
        EXPECT_FALSE(may_follow(from, from));
        EXPECT_EQ(may_follow(from, Closed), from != Closed);
        EXPECT_FALSE(may_follow(from, Listening));
        EXPECT_EQ(may_follow(from, Failed), from != Failed && from != Closed);
    }
    EXPECT_TRUE(may_follow(Listening, Handshaking));
    EXPECT_FALSE(may_follow(Listening, Serving));
    EXPECT_TRUE(may_follow(Handshaking, Serving));
    EXPECT_FALSE(may_follow(Handshaking, Complete));
    EXPECT_TRUE(may_follow(Serving, Complete));
    EXPECT_FALSE(may_follow(Complete, Serving));
}

} // namespace
} // namespace thaw::pagerd
