// SPDX-License-Identifier: MIT
#include "reserve/plan.hpp"

#include <gtest/gtest.h>

namespace thaw::reserve {
namespace {

constexpr std::uint64_t kGiB = 1024 * kMiB;

Space disk(std::uint64_t total) {
    return {.total = total, .free = total / 2, .available = total / 2};
}

TEST(SizeSetting, ReadsWhatAdminsWrite) {
    EXPECT_EQ(parse_size_setting("auto"), (SizeSetting{.automatic = true}));
    EXPECT_EQ(parse_size_setting("64M"), (SizeSetting{.bytes = 64 * kMiB}));
    EXPECT_EQ(parse_size_setting("1GiB"), (SizeSetting{.bytes = kGiB}));
    EXPECT_EQ(parse_size_setting("0"), (SizeSetting{.bytes = 0}));
    EXPECT_EQ(parse_size_setting("1M"), (SizeSetting{.bytes = kMiB}));
    EXPECT_EQ(parse_size_setting("64G"), (SizeSetting{.bytes = 64 * kGiB}));
}

TEST(SizeSetting, RefusesTheRest) {
    EXPECT_EQ(parse_size_setting("1023K").error().code(), ERANGE);
    EXPECT_EQ(parse_size_setting("65G").error().code(), ERANGE);
    EXPECT_EQ(parse_size_setting("").error().code(), EINVAL);
    EXPECT_EQ(parse_size_setting("Auto").error().code(), EINVAL);
    EXPECT_EQ(parse_size_setting("-1").error().code(), EINVAL);
}

TEST(Plan, DefaultIs64MiBWhateverTheDisk) {
    EXPECT_EQ(plan_reserve({}, disk(100 * kMiB), "ext4").bytes, 64 * kMiB);
    EXPECT_EQ(plan_reserve({}, disk(4096 * kGiB), "xfs").bytes, 64 * kMiB);
}

TEST(Plan, AutoIsOnePercentBetween64MiBAnd1GiB) {
    const SizeSetting automatic{.automatic = true};
    EXPECT_EQ(plan_reserve(automatic, disk(6400 * kMiB), "xfs").bytes, 64 * kMiB);
    EXPECT_EQ(plan_reserve(automatic, disk(6500 * kMiB), "xfs").bytes, 65 * kMiB);
    EXPECT_EQ(plan_reserve(automatic, disk(6501 * kMiB), "xfs").bytes, 66 * kMiB); // whole MiB
    EXPECT_EQ(plan_reserve(automatic, disk(100 * kGiB), "xfs").bytes, kGiB);
    EXPECT_EQ(plan_reserve(automatic, disk(101 * kGiB), "xfs").bytes, kGiB);
}

TEST(Plan, RootPoolIsAddedWhereRootWritersAreExpected) {
    const Space space{.total = 10 * kGiB, .free = 5 * kGiB, .available = 5 * kGiB - 512 * kMiB};
    const auto one_percent = 103 * kMiB;
    EXPECT_EQ(plan_reserve({.automatic = true}, space, "ext4").bytes, one_percent);
    const SizeSetting with_root{.automatic = true, .root_writers = true};
    EXPECT_EQ(plan_reserve(with_root, space, "ext4"), (Plan{.bytes = one_percent + 512 * kMiB}));
    // xfs and btrfs have no such pool: what differs there is something else.
    EXPECT_EQ(plan_reserve(with_root, space, "xfs").bytes, one_percent);
    // A size that was given is the size.
    const SizeSetting fixed{.bytes = 64 * kMiB, .root_writers = true};
    EXPECT_EQ(plan_reserve(fixed, space, "ext4").bytes, 64 * kMiB);
}

TEST(Plan, OnAFullDiskTheRootPoolIsUnknown) {
    const Space space{.total = 10 * kGiB, .free = 100 * kMiB, .available = 0};
    const SizeSetting with_root{.automatic = true, .root_writers = true};
    EXPECT_EQ(
        plan_reserve(with_root, space, "ext4"), (Plan{.bytes = 103 * kMiB, .provisional = true})
    );
    EXPECT_FALSE(plan_reserve(with_root, space, "btrfs").provisional);
}

TEST(Plan, ChunksAre8MiBAndTheLastTakesTheRest) {
    const Plan plan{.bytes = 20 * kMiB};
    EXPECT_EQ(plan.chunks(), 3u);
    EXPECT_EQ(plan.chunk_length(0), 8 * kMiB);
    EXPECT_EQ(plan.chunk_length(1), 8 * kMiB);
    EXPECT_EQ(plan.chunk_length(2), 4 * kMiB);
    EXPECT_EQ(plan.chunk_length(3), 0u);
    EXPECT_EQ(Plan{}.chunks(), 8u);
    EXPECT_EQ(Plan{.bytes = 0}.chunks(), 0u);
}

} // namespace
} // namespace thaw::reserve
