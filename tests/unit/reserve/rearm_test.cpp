// SPDX-License-Identifier: MIT
#include "reserve/rearm.hpp"

#include <gtest/gtest.h>

namespace thaw::reserve {
namespace {

constexpr Microseconds kSecond = kUsecPerSec;

Measurement missing(std::uint64_t chunks, std::uint64_t available) {
    Measurement measured;
    measured.planned = 64 * kMiB;
    measured.missing = chunks * kChunkBytes;
    measured.missing_chunks = static_cast<unsigned>(chunks);
    measured.space = {.total = 1024 * kMiB, .free = available, .available = available};
    return measured;
}

RearmAction act(const Measurement& measured, Microseconds now, RearmClock& clock) {
    return decide_rearm({}, measured, now, clock).action;
}

TEST(Rearm, NothingMissingNothingToDo) {
    RearmClock clock;
    EXPECT_EQ(act(missing(0, 0), 5 * kSecond, clock), RearmAction::None);
    EXPECT_FALSE(clock.roomy_since);
}

TEST(Rearm, SpaceThresholdIsTwiceWhatIsMissing) {
    RearmClock clock;
    const auto below = decide_rearm({}, missing(8, 128 * kMiB - 1), kSecond, clock);
    EXPECT_EQ(below.action, RearmAction::Deferred);
    EXPECT_EQ(below.free, 128 * kMiB - 1);
    EXPECT_EQ(below.needed, 64 * kMiB);
    EXPECT_EQ(below.threshold, 128 * kMiB);
    EXPECT_FALSE(below.inodes_short);
    const auto at = decide_rearm({}, missing(8, 128 * kMiB), kSecond, clock);
    EXPECT_EQ(at.action, RearmAction::Waiting);
    EXPECT_EQ(at.wait, 30 * kSecond);
}

TEST(Rearm, RoomMustLast) {
    RearmClock clock;
    EXPECT_EQ(act(missing(8, 512 * kMiB), 100 * kSecond, clock), RearmAction::Waiting);
    EXPECT_EQ(act(missing(8, 512 * kMiB), 130 * kSecond - 1, clock), RearmAction::Waiting);
    EXPECT_EQ(act(missing(8, 512 * kMiB), 130 * kSecond, clock), RearmAction::Lay);
    // Laying goes on at once: the dwell covers all chunks.
    EXPECT_EQ(act(missing(7, 504 * kMiB), 131 * kSecond, clock), RearmAction::Lay);
    EXPECT_EQ(act(missing(0, 448 * kMiB), 138 * kSecond, clock), RearmAction::None);
}

TEST(Rearm, AGapInTheRoomStartsTheTimeAnew) {
    RearmClock clock;
    EXPECT_EQ(act(missing(8, 512 * kMiB), 100 * kSecond, clock), RearmAction::Waiting);
    EXPECT_EQ(act(missing(8, 1 * kMiB), 120 * kSecond, clock), RearmAction::Deferred);
    EXPECT_EQ(act(missing(8, 512 * kMiB), 131 * kSecond, clock), RearmAction::Waiting);
    EXPECT_EQ(act(missing(8, 512 * kMiB), 160 * kSecond, clock), RearmAction::Waiting);
    EXPECT_EQ(act(missing(8, 512 * kMiB), 161 * kSecond, clock), RearmAction::Lay);
}

TEST(Rearm, AReleaseInBetweenStartsTheTimeAnew) {
    RearmClock clock;
    act(missing(8, 512 * kMiB), 0, clock);
    EXPECT_EQ(act(missing(8, 512 * kMiB), 30 * kSecond, clock), RearmAction::Lay);
    EXPECT_EQ(act(missing(7, 504 * kMiB), 31 * kSecond, clock), RearmAction::Lay);
    // Somebody took the chunk away again.
    EXPECT_EQ(act(missing(8, 512 * kMiB), 32 * kSecond, clock), RearmAction::Waiting);
    EXPECT_EQ(act(missing(8, 512 * kMiB), 61 * kSecond, clock), RearmAction::Waiting);
    EXPECT_EQ(act(missing(8, 512 * kMiB), 62 * kSecond, clock), RearmAction::Lay);
}

TEST(Rearm, InodesAreAnAxisOfTheirOwn) {
    RearmClock clock;
    auto measured = missing(8, 512 * kMiB);
    measured.space.inodes_total = 1000;
    measured.space.inodes_available = 15;
    const auto decision = decide_rearm({}, measured, 0, clock);
    EXPECT_EQ(decision.action, RearmAction::Deferred);
    EXPECT_TRUE(decision.inodes_short);
    measured.space.inodes_available = 16;
    EXPECT_EQ(act(measured, 0, clock), RearmAction::Waiting);
    // btrfs counts none: that is not "none left".
    measured.space.inodes_total = 0;
    measured.space.inodes_available = 0;
    EXPECT_EQ(act(measured, 1, clock), RearmAction::Waiting);
}

TEST(Rearm, PolicyIsTheAdmins) {
    RearmClock clock;
    const RearmPolicy eager{.factor = 1, .dwell = 0};
    EXPECT_EQ(decide_rearm(eager, missing(8, 64 * kMiB), 0, clock).action, RearmAction::Lay);
    const RearmPolicy absurd{.factor = UINT64_MAX, .dwell = 0};
    const auto decision = decide_rearm(absurd, missing(8, 64 * kMiB), 0, clock);
    EXPECT_EQ(decision.action, RearmAction::Deferred);
    EXPECT_EQ(decision.threshold, UINT64_MAX); // not wrapped around
}

TEST(Heal, OneActionPerDamage) {
    using enum ChunkHealth;
    EXPECT_EQ(heal_action(Healthy), HealAction::None);
    EXPECT_EQ(heal_action(Absent), HealAction::None); // the re-arm rule's
    EXPECT_EQ(heal_action(CutShort), HealAction::Refill);
    EXPECT_EQ(heal_action(Sparse), HealAction::Refill);
    EXPECT_EQ(heal_action(TooLong), HealAction::CutBack);
    EXPECT_EQ(heal_action(HardLinked), HealAction::Replace);
    EXPECT_EQ(heal_action(Symlink), HealAction::Replace);
    EXPECT_EQ(heal_action(NotRegular), HealAction::Replace);
    EXPECT_EQ(heal_action(Exposed), HealAction::Restrict);
    EXPECT_EQ(heal_action(Unwritten), HealAction::Rewrite);
    EXPECT_EQ(heal_action(Shared), HealAction::None);
    EXPECT_EQ(heal_action(Compressed), HealAction::None);
}

TEST(Heal, IsNeededForDamageAndForALostText) {
    Measurement measured;
    measured.text = true;
    measured.chunks = {{.index = 0, .health = ChunkHealth::Healthy}};
    EXPECT_FALSE(needs_healing(measured));
    measured.text = false;
    EXPECT_TRUE(needs_healing(measured));
    measured.text = true;
    measured.chunks.push_back({.index = 1, .health = ChunkHealth::Sparse});
    EXPECT_TRUE(needs_healing(measured));
    measured.chunks = {{.index = 0, .health = ChunkHealth::Absent}};
    measured.text = false;
    EXPECT_FALSE(needs_healing(measured)); // nothing is held, so no text either
}

} // namespace
} // namespace thaw::reserve
