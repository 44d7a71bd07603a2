// SPDX-License-Identifier: MIT
#include "overlay/slots.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace thaw::rootfs::test {
namespace {

TEST(Slots, AreTakenSideBySideUpToTheCapacity) {
    Slots slots(10);
    EXPECT_EQ(slots.take(4), (SlotRun{0, 4}));
    EXPECT_EQ(slots.take(100), (SlotRun{4, 6}));
    EXPECT_EQ(slots.take(1).count, 0u);
    slots.grow(12);
    EXPECT_EQ(slots.take(100), (SlotRun{10, 2}));
}

TEST(Slots, FreedOnesAreUsedBeforeFreshOnes) {
    Slots slots(1000);
    slots.take(200);
    slots.free({.first = 100, .count = 3});
    EXPECT_EQ(slots.take(2), (SlotRun{100, 2}));
    EXPECT_EQ(slots.take(5), (SlotRun{102, 1}));
    EXPECT_EQ(slots.take(5), (SlotRun{200, 5}));
    EXPECT_EQ(slots.used(), 205u);
}

TEST(Slots, OfAPointWaitForItsEnd) {
    Slots slots(100);
    slots.take(10);
    slots.pin();
    slots.take(5); // 10 to 14 are of no point
    EXPECT_EQ(slots.retire({.first = 8, .count = 4}), (std::vector<SlotRun>{{10, 2}}));
    slots.free({.first = 10, .count = 2});
    EXPECT_TRUE(slots.pinned(8));
    EXPECT_FALSE(slots.pinned(12));
    EXPECT_EQ(slots.take(50), (SlotRun{10, 2})) << "not 8 and 9";
    EXPECT_EQ(slots.unpin(), (std::vector<SlotRun>{{8, 2}}));
    EXPECT_FALSE(slots.pinned(8));
}

TEST(Slots, OfAnEarlierRunAreTakenOnce) {
    Slots slots(20);
    EXPECT_TRUE(slots.take_exactly({.first = 5, .count = 5}));
    EXPECT_FALSE(slots.take_exactly({.first = 9, .count = 2})) << "9 is taken";
    EXPECT_FALSE(slots.take_exactly({.first = 19, .count = 2})) << "20 is not there";
    EXPECT_TRUE(slots.take_exactly({.first = 10, .count = 10}));
    EXPECT_EQ(slots.take(10), (SlotRun{0, 5}));
}

TEST(Slots, NeverGiveOneTwice) {
    std::mt19937 random(1);
    Slots slots(500);
    std::set<std::uint32_t> taken;
    for (int i = 0; i < 20'000; ++i) {
        if (random() % 2 == 0) {
            const bool full = taken.size() == 500;
            const auto run = slots.take(1 + random() % 20);
            ASSERT_EQ(run.count == 0, full);
            for (std::uint32_t n = 0; n < run.count; ++n)
                ASSERT_TRUE(taken.insert(run.first + n).second);
        } else if (!taken.empty()) {
            auto it = taken.lower_bound(random() % 500);
            if (it == taken.end()) it = taken.begin();
            slots.free({.first = *it, .count = 1});
            taken.erase(it);
        }
        ASSERT_EQ(slots.used(), taken.size());
    }
}

} // namespace
} // namespace thaw::rootfs::test
