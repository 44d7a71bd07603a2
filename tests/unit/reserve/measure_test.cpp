// SPDX-License-Identifier: MIT
#include "reserve/measure.hpp"

#include <gtest/gtest.h>

namespace thaw::reserve {
namespace {

// One entry per chunk; releasable in MiB of 8 each.
Measurement
holding(std::initializer_list<std::pair<ChunkHealth, std::uint64_t>> chunks, bool text = true) {
    Measurement measured;
    measured.text = text;
    for (const auto& [health, mib] : chunks) {
        const bool absent = health == ChunkHealth::Absent;
        const Chunk chunk{
            .index = static_cast<unsigned>(measured.chunks.size()),
            .health = health,
            .allocated = absent ? 0 : kChunkBytes,
            .releasable = mib * kMiB,
        };
        measured.planned += kChunkBytes;
        measured.allocated += chunk.allocated;
        measured.releasable += chunk.releasable;
        measured.chunks.push_back(chunk);
    }
    return measured;
}

using enum ChunkHealth;

TEST(Judge, ArmedIsEveryChunkWorthItsBytes) {
    EXPECT_EQ(judge(holding({{Healthy, 8}, {Healthy, 8}}), false, false), State::Armed);
    // Even with an error behind us: what is there is there.
    EXPECT_EQ(judge(holding({{Healthy, 8}, {Healthy, 8}}), false, true), State::Armed);
}

TEST(Judge, NothingLessIsArmed) {
    EXPECT_EQ(judge(holding({{Healthy, 8}, {Absent, 0}}), false, false), State::Degraded);
    EXPECT_EQ(judge(holding({{Healthy, 8}, {Absent, 0}}), true, true), State::Degraded);
    EXPECT_EQ(judge(holding({{Healthy, 8}, {HardLinked, 8}}), false, false), State::Degraded);
    EXPECT_EQ(
        judge(holding({{Healthy, 8}, {Healthy, 8}, {Shared, 0}}), false, false), State::Degraded
    );
    EXPECT_EQ(judge(holding({{Healthy, 8}, {Exposed, 8}}), false, false), State::Degraded);
    // Healthy by name, but not worth the plan.
    EXPECT_EQ(judge(holding({{Healthy, 8}, {Healthy, 7}}), false, false), State::Degraded);
}

TEST(Judge, PlaceboIsAllocatedButWorthHalfOrLess) {
    EXPECT_EQ(judge(holding({{Shared, 0}, {Shared, 0}}), false, false), State::Placebo);
    EXPECT_EQ(judge(holding({{Compressed, 0}, {Healthy, 8}}), false, false), State::Placebo);
    EXPECT_EQ(judge(holding({{Unwritten, 0}, {Absent, 0}}), true, true), State::Placebo);
}

TEST(Judge, NothingHeld) {
    EXPECT_EQ(judge(holding({{Absent, 0}, {Absent, 0}}), false, false), State::Released);
    // Deferred is for the first arming; what was released stays released.
    EXPECT_EQ(judge(holding({{Absent, 0}}, true), true, false), State::Released);
    EXPECT_EQ(judge(holding({{Absent, 0}}, false), true, false), State::Deferred);
    EXPECT_EQ(judge(holding({{Absent, 0}}, false), false, false), State::Released);
    EXPECT_EQ(judge(holding({{Absent, 0}}, true), false, true), State::Failed);
    EXPECT_EQ(judge(holding({{Absent, 0}}, false), true, true), State::Failed);
}

TEST(Judge, ALinkInTheWayIsNotReleased) {
    auto measured = holding({{Symlink, 0}});
    measured.allocated = 0;
    EXPECT_EQ(judge(measured, false, false), State::Degraded);
}

TEST(StateNames, AreTheDocumentedWords) {
    EXPECT_EQ(kStateNames.name(State::Armed), "armed");
    EXPECT_EQ(kStateNames.name(State::Degraded), "degraded");
    EXPECT_EQ(kStateNames.name(State::Placebo), "placebo");
    EXPECT_EQ(kStateNames.name(State::Released), "released");
    EXPECT_EQ(kStateNames.name(State::Deferred), "deferred");
    EXPECT_EQ(kStateNames.name(State::Failed), "failed");
}

} // namespace
} // namespace thaw::reserve
