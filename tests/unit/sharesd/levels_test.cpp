// SPDX-License-Identifier: MIT
#include "levels.hpp"

#include <gtest/gtest.h>

namespace thaw::sharesd {
namespace {

using enum Level;
using Levels = std::vector<Level>;

TEST(NextLevel, BeginsAtSixtyEightyAndNinetyFivePercent) {
    EXPECT_EQ(next_level(Normal, 0, 1000), Normal);
    EXPECT_EQ(next_level(Normal, 599, 1000), Normal);
    EXPECT_EQ(next_level(Normal, 600, 1000), Elevated);
    EXPECT_EQ(next_level(Normal, 799, 1000), Elevated);
    EXPECT_EQ(next_level(Normal, 800, 1000), High);
    EXPECT_EQ(next_level(Normal, 949, 1000), High);
    EXPECT_EQ(next_level(Normal, 950, 1000), Critical);
    EXPECT_EQ(next_level(Normal, 5000, 1000), Critical);
}

TEST(NextLevel, IsLeftFivePointsBelowWhereItBegan) {
    EXPECT_EQ(next_level(Critical, 949, 1000), Critical);
    EXPECT_EQ(next_level(Critical, 900, 1000), Critical);
    EXPECT_EQ(next_level(Critical, 899, 1000), High);
    EXPECT_EQ(next_level(High, 750, 1000), High);
    EXPECT_EQ(next_level(High, 749, 1000), Elevated);
    EXPECT_EQ(next_level(Elevated, 550, 1000), Elevated);
    EXPECT_EQ(next_level(Elevated, 549, 1000), Normal);
    EXPECT_EQ(next_level(Critical, 0, 1000), Normal);
    // What hovers at a threshold is told once.
    Level level = Normal;
    int changes = 0;
    for (const std::uint64_t used : {590, 600, 599, 601, 580, 600, 551, 600}) {
        const auto next = next_level(level, used, 1000);
        changes += next != level;
        level = next;
    }
    EXPECT_EQ(changes, 1);
}

TEST(NextLevel, WhatCannotBeCountedIsUnknownAndNeverNormal) {
    EXPECT_EQ(next_level(Normal, std::nullopt, 1000), Unknown);
    EXPECT_EQ(next_level(Critical, std::nullopt, kInfinity), Unknown);
    // Coming back there is no level to hold on to.
    EXPECT_EQ(next_level(Unknown, 590, 1000), Normal);
    EXPECT_EQ(next_level(Unknown, 960, 1000), Critical);
}

TEST(NextLevel, OddBudgets) {
    EXPECT_EQ(next_level(Normal, 1 << 30, kInfinity), Normal);
    EXPECT_EQ(next_level(Normal, 0, 0), Critical);
    EXPECT_EQ(next_level(Normal, UINT64_MAX / 2, UINT64_MAX - 1), Normal);
    EXPECT_EQ(next_level(Normal, UINT64_MAX - 2, UINT64_MAX - 1), Critical);
}

TEST(LevelsBetween, NoLevelIsSkippedOnTheWayUp) {
    EXPECT_EQ(levels_between(Normal, Critical), (Levels{Elevated, High, Critical}));
    EXPECT_EQ(levels_between(Elevated, Critical), (Levels{High, Critical}));
    EXPECT_EQ(levels_between(Critical, Normal), (Levels{Normal}));
    EXPECT_EQ(levels_between(Normal, Unknown), (Levels{Unknown}));
    EXPECT_EQ(levels_between(Unknown, Critical), (Levels{Critical}));
    EXPECT_EQ(levels_between(High, High), Levels{});
}

TEST(Forecast, FollowsTheRateOfTheLastSeconds) {
    const std::vector<Sample> steady{{0, 0}, {kUsecPerSec, 1000}, {2 * kUsecPerSec, 2000}};
    EXPECT_EQ(forecast(steady, 10000), 8 * kUsecPerSec);
    // Ten quiet minutes do not hide what began a second ago.
    const std::vector<Sample> sudden{
        {0, 0}, {600 * kUsecPerSec, 0}, {601 * kUsecPerSec, 1000}, {602 * kUsecPerSec, 2000}
    };
    EXPECT_EQ(forecast(sudden, 10000), 8 * kUsecPerSec);
    // A lone sample of the window is compared with the one before.
    const std::vector<Sample> rare{{0, 0}, {20 * kUsecPerSec, 2000}};
    EXPECT_EQ(forecast(rare, 4000), 20 * kUsecPerSec);
}

TEST(Forecast, ABurstIsNoRate) {
    constexpr auto kMsec = kUsecPerMsec;
    const std::vector<Sample> burst{{0, 0}, {200 * kMsec, 0}, {250 * kMsec, 1000}};
    EXPECT_EQ(forecast(burst, 10000), kInfinity);
    // The end is nearer than that.
    EXPECT_EQ(forecast(burst, 2000), 250 * kMsec);
}

TEST(Forecast, NothingInSight) {
    EXPECT_EQ(forecast({}, 100), kInfinity);
    EXPECT_EQ(forecast(std::vector<Sample>{{5, 5}}, 100), kInfinity);
    EXPECT_EQ(forecast(std::vector<Sample>{{0, 50}, {kUsecPerSec, 50}}, 100), kInfinity);
    EXPECT_EQ(forecast(std::vector<Sample>{{0, 50}, {kUsecPerSec, 40}}, 100), kInfinity);
    EXPECT_EQ(forecast(std::vector<Sample>{{0, 0}, {kUsecPerSec, 40}}, kInfinity), kInfinity);
    EXPECT_EQ(forecast(std::vector<Sample>{{0, 0}, {kUsecPerSec, 140}}, 100), 0U);
}

TEST(NextPoll, IsBeforeTheFastestGuestReachesTheNextLevel) {
    // An idle share with the usual budget: nothing can happen within two seconds.
    EXPECT_EQ(next_poll(Normal, 0, 523678, 0), kLongestPoll);
    EXPECT_EQ(next_poll(Normal, 0, kInfinity, 0), kLongestPoll);
    // A small one: 60 % of 15774 at 30000 a second, halved.
    EXPECT_EQ(next_poll(Normal, 0, 15774, 0), 157750U);
    EXPECT_EQ(next_poll(Critical, 15700, 15774, 0), kShortestPoll);
    EXPECT_EQ(next_poll(Critical, 20000, 15774, 0), kShortestPoll);
    EXPECT_EQ(next_poll(Unknown, std::nullopt, 15774, 0), kLongestPoll);
}

TEST(NextPoll, CountingCostsAtMostTwoPercent) {
    EXPECT_EQ(next_poll(Critical, 15700, 15774, 39 * kUsecPerMsec), 1950 * kUsecPerMsec);
    EXPECT_EQ(next_poll(Normal, 0, 523678, 100 * kUsecPerMsec), 5 * kUsecPerSec);
}

TEST(Remedies, TheGentlestFirst) {
    using Words = std::vector<std::string>;
    RemedyQuestion question{
        .descriptors = High,
        .can_drop_caches = true,
        .handles_possible = true,
        .limit_can_rise = true,
        .rises_live = true
    };
    EXPECT_EQ(
        remedies(question), (Words{"drop-caches", "file-handles-at-next-start", "raise-limit"})
    );
    question.uses_handles = true;
    question.rises_live = false;
    EXPECT_EQ(remedies(question), (Words{"drop-caches", "restart-with-more"}));
    question.can_drop_caches = question.limit_can_rise = false;
    EXPECT_EQ(remedies(question), Words{});
    question.limit_can_rise = true;
    question.descriptors = Normal;
    EXPECT_EQ(remedies(question), Words{});
}

TEST(Remedies, MoreDescriptorsAreNoCureForMemoryOrForNotKnowing) {
    using Words = std::vector<std::string>;
    RemedyQuestion question{
        .memory = Critical,
        .can_drop_caches = true,
        .handles_possible = true,
        .limit_can_rise = true,
        .rises_live = true
    };
    EXPECT_EQ(remedies(question), Words{"drop-caches"});
    question.memory = question.descriptors = Unknown;
    EXPECT_EQ(remedies(question), Words{});
}

} // namespace
} // namespace thaw::sharesd
