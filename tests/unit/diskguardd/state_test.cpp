// SPDX-License-Identifier: MIT
#include "volume_state.hpp"

#include <gtest/gtest.h>

namespace thaw::diskguard {
namespace {

using reserve::kMiB;

reserve::Measurement measurement(std::uint64_t available, unsigned held, unsigned planned = 8) {
    reserve::Measurement measured;
    measured.space = {
        .total = 1000 * kMiB,
        .free = available,
        .available = available,
        .inodes_total = 100000,
        .inodes_free = 50000,
        .inodes_available = 50000,
    };
    measured.text = true;
    measured.planned = planned * reserve::kChunkBytes;
    measured.allocated = measured.releasable = held * reserve::kChunkBytes;
    measured.missing_chunks = planned - held;
    measured.missing = measured.missing_chunks * reserve::kChunkBytes;
    for (unsigned i = 0; i < planned; ++i) {
        const bool there = i < held;
        measured.chunks.push_back({
            .index = i,
            .health = there ? reserve::ChunkHealth::Healthy : reserve::ChunkHealth::Absent,
            .allocated = there ? reserve::kChunkBytes : 0,
            .releasable = there ? reserve::kChunkBytes : 0,
        });
    }
    return measured;
}

class State : public testing::Test {
protected:
    Config config_;
    VolumeState state_{config_};
};

TEST_F(State, NothingIsTrueBeforeTheFirstLook) {
    EXPECT_FALSE(state_.known());
    EXPECT_EQ(state_.state(), reserve::State::Failed);
    EXPECT_EQ(state_.level(), Level::Unknown);
    EXPECT_EQ(state_.level_without_reserve(), Level::Unknown);
    EXPECT_EQ(state_.time_to_full(), kInfinity);
}

TEST_F(State, StateAndLevelsComeFromTheMeasurement) {
    state_.observe(0, measurement(500 * kMiB, 8));
    EXPECT_EQ(state_.state(), reserve::State::Armed);
    EXPECT_EQ(state_.level(), Level::Normal);
    state_.observe(1, measurement(500 * kMiB, 5));
    EXPECT_EQ(state_.state(), reserve::State::Degraded);
    state_.observe(2, measurement(40 * kMiB, 0));
    EXPECT_EQ(state_.state(), reserve::State::Released);
    EXPECT_EQ(state_.level(), Level::Critical);
}

TEST_F(State, InodesAreAnAxisOfTheirOwn) {
    auto measured = measurement(500 * kMiB, 8);
    measured.space.inodes_available = 500;
    state_.observe(0, measured);
    EXPECT_EQ(state_.bytes_level(), Level::Normal);
    EXPECT_EQ(state_.inodes_level(), Level::Full);
    EXPECT_EQ(state_.level(), Level::Full);
}

TEST_F(State, WhatAReleaseGaveIsNotRoom) {
    state_.observe(0, measurement(64 * kMiB, 0));
    EXPECT_EQ(state_.level(), Level::Low);
    EXPECT_EQ(state_.level_without_reserve(), Level::Full);
    state_.observe(1, measurement(300 * kMiB, 0));
    EXPECT_EQ(state_.level_without_reserve(), Level::Normal);
}

TEST_F(State, RearmWaitsForRoomAndTime) {
    config_.rearm = {.factor = 2, .dwell = 10 * kUsecPerSec};
    state_.observe(0, measurement(100 * kMiB, 0));
    EXPECT_EQ(state_.decide_rearm(0).action, reserve::RearmAction::Deferred);
    EXPECT_EQ(state_.rearm().threshold, 128 * kMiB);
    state_.observe(kUsecPerSec, measurement(200 * kMiB, 0));
    EXPECT_EQ(state_.decide_rearm(kUsecPerSec).action, reserve::RearmAction::Waiting);
    EXPECT_LE(state_.next_poll(), 10 * kUsecPerSec);
    state_.observe(11 * kUsecPerSec, measurement(200 * kMiB, 0));
    EXPECT_EQ(state_.decide_rearm(11 * kUsecPerSec).action, reserve::RearmAction::Lay);
}

TEST_F(State, AProvisionalPlanIsMadeAnew) {
    config_.reserve.automatic = true;
    config_.reserve.root_writers = true;
    auto space = measurement(0, 0).space;
    EXPECT_TRUE(state_.plan_for(space, "ext4").provisional);
    space.available = 500 * kMiB;
    space.free = 550 * kMiB;
    const auto whole = state_.plan_for(space, "ext4");
    EXPECT_FALSE(whole.provisional);
    EXPECT_EQ(whole.bytes, (64 + 50) * kMiB);
    // From then on it stays, whatever is free.
    space.available = 0;
    EXPECT_EQ(state_.plan_for(space, "ext4"), whole);
}

TEST_F(State, LooksComeCloserWhenTheVolumeFills) {
    state_.observe(0, measurement(900 * kMiB, 8));
    EXPECT_EQ(state_.next_poll(), kUsecPerSec);
    for (Microseconds second = 1; second < 20; ++second)
        state_.observe(second * kUsecPerSec, measurement(900 * kMiB, 8));
    EXPECT_EQ(state_.next_poll(), 10 * kUsecPerSec);
    state_.observe(20 * kUsecPerSec, measurement(800 * kMiB, 8));
    EXPECT_EQ(state_.next_poll(), kUsecPerSec);
}

TEST_F(State, AFailedLookTakesEveryClaimBack) {
    state_.observe(0, measurement(500 * kMiB, 8));
    state_.fail_look("EIO");
    EXPECT_EQ(state_.state(), reserve::State::Failed);
    EXPECT_EQ(state_.problem(), "EIO");
    EXPECT_FALSE(state_.measured());
    EXPECT_EQ(state_.rearm().action, reserve::RearmAction::None);
    state_.observe(1, measurement(500 * kMiB, 8));
    EXPECT_EQ(state_.state(), reserve::State::Armed);
    EXPECT_EQ(state_.problem(), std::nullopt) << "a trouble that has passed";
}

TEST_F(State, AGoodLookDoesNotForgetAFailedStep) {
    state_.observe(0, measurement(500 * kMiB, 0));
    state_.set_problem("EIO while laying");
    state_.fail_look("EMFILE");
    state_.observe(1, measurement(500 * kMiB, 0));
    EXPECT_EQ(state_.state(), reserve::State::Failed);
    EXPECT_EQ(state_.problem(), "EIO while laying");
}

TEST_F(State, InodesThatGoAreWatchedClosely) {
    auto measured = measurement(900 * kMiB, 8);
    measured.space.total = 1000 * kMiB;
    for (Microseconds now = 0; now < 10 * kUsecPerSec; now += kUsecPerSec)
        state_.observe(now, measured);
    const auto calm = state_.next_poll();
    // Empty files: no byte less is free. Near the next level, and going.
    for (Microseconds now = 10 * kUsecPerSec; now < 20 * kUsecPerSec; now += kUsecPerSec) {
        measured.space.inodes_available -= 4000;
        state_.observe(now, measured);
    }
    EXPECT_EQ(state_.bytes_level(), Level::Normal);
    EXPECT_GE(calm, 10 * kUsecPerSec);
    EXPECT_LE(state_.next_poll(), 2 * kUsecPerSec);
}

} // namespace
} // namespace thaw::diskguard
