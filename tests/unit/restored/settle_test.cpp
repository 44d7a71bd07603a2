// SPDX-License-Identifier: MIT
#include "settle.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace thaw::restore {
namespace {

using Verdict = SettleDetector::Verdict;
constexpr Microseconds kLimit = 10 * kUsecPerSec;

// Feeds one number of faults per tick; the tick (from 1) and verdict it ended with.
std::pair<unsigned, Verdict> feed(const std::vector<std::uint64_t>& per_tick, Microseconds limit) {
    SettleDetector detector(1000, limit);
    std::uint64_t total = 0;
    unsigned tick = 0;
    for (const auto faults : per_tick) {
        total += faults;
        ++tick;
        const auto verdict = detector.observe(1000 + tick * kSettleTick, total);
        if (verdict != Verdict::Waiting) return {tick, verdict};
    }
    return {tick, Verdict::Waiting};
}

TEST(Settle, ThreeQuietTicksAfterTheBurst) {
    EXPECT_EQ(
        feed({900, 4000, 2000, 700, 300, 3, 0, 1, 0}, kLimit), std::pair(8U, Verdict::Settled)
    );
}

TEST(Settle, NotBeforeHalfASecond) {
    // Quiet from the second tick on: three of them are over after 400 ms.
    EXPECT_EQ(feed({5000, 0, 0, 0}, kLimit), std::pair(4U, Verdict::Waiting));
    EXPECT_EQ(feed({5000, 0, 0, 0, 0}, kLimit), std::pair(5U, Verdict::Settled));
}

TEST(Settle, ALullInTheBurstIsNoEnd) {
    EXPECT_EQ(feed({4000, 3000, 0, 0, 2000, 0, 0, 0}, kLimit), std::pair(8U, Verdict::Settled));
}

TEST(Settle, BackgroundNoiseIsQuiet) {
    // 80 faults are noise beside 4000, and a burst beside 100.
    EXPECT_EQ(feed({4000, 80, 80, 80, 80}, kLimit), std::pair(5U, Verdict::Settled));
    EXPECT_EQ(feed({100, 80, 80, 80, 80, 80}, kLimit), std::pair(6U, Verdict::Waiting));
}

TEST(Settle, WithoutActivityItIsNotSettled) {
    const std::vector<std::uint64_t> nothing(200, 0);
    EXPECT_EQ(feed(nothing, kLimit), std::pair(100U, Verdict::Idle));
    EXPECT_EQ(feed({0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0}, kLimit), std::pair(11U, Verdict::Settled));
}

TEST(Settle, AGuestThatNeverRestsIsCapped) {
    const std::vector<std::uint64_t> busy(200, 1000);
    EXPECT_EQ(feed(busy, kLimit), std::pair(100U, Verdict::Capped));
    EXPECT_EQ(feed(busy, 2 * kUsecPerSec), std::pair(20U, Verdict::Capped));
}

TEST(Settle, WhatNobodySawIsNotQuiet) {
    SettleDetector detector(0, kLimit);
    EXPECT_EQ(detector.observe(1 * kSettleTick, 500), Verdict::Waiting);
    for (unsigned tick = 2; tick < 20; ++tick)
        EXPECT_EQ(detector.observe(tick * kSettleTick, std::nullopt), Verdict::Waiting);
    for (unsigned tick = 20; tick < 22; ++tick)
        EXPECT_EQ(detector.observe(tick * kSettleTick, 500), Verdict::Waiting);
    EXPECT_EQ(detector.observe(22 * kSettleTick, 500), Verdict::Settled);
}

TEST(Settle, ABrokerThatNeverAnswersEndsAtTheLimit) {
    SettleDetector detector(0, kLimit);
    EXPECT_EQ(detector.observe(kLimit - 1, std::nullopt), Verdict::Waiting);
    EXPECT_EQ(detector.observe(kLimit, std::nullopt), Verdict::Idle);
}

} // namespace
} // namespace thaw::restore
