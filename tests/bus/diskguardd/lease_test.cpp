// SPDX-License-Identifier: MIT
#include "fixture.hpp"

namespace thaw::diskguard {
namespace {

namespace error = diskguard1::error;
using Leases = DiskguardTest;

TEST_F(Leases, ArePromisesThatEndWithTheDescriptor) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    const auto free = free_bytes();
    EXPECT_EQ(can_fit(0), free);
    auto first = reserve(50 * kMiB);
    ASSERT_TRUE(first);
    EXPECT_EQ(can_fit(0), free - 50 * kMiB);
    EXPECT_EQ(number("PromisedBytes"), 50 * kMiB);
    EXPECT_EQ(leases(), 1U);
    EXPECT_EQ(keeper_->count(".lease"), 1U);
    Reply refused;
    EXPECT_FALSE(reserve(free - 49 * kMiB, &refused));
    EXPECT_EQ(refused.error, error::kNoSpace);
    // With the numbers that decided.
    EXPECT_NE(refused.text.find("50.0M of them promised"), std::string::npos) << refused.text;
    bool fits = true;
    (void)can_fit(free, &fits);
    EXPECT_FALSE(fits);
    auto second = reserve(free - 50 * kMiB);
    EXPECT_TRUE(second);
    first.reset();
    second.reset();
    EXPECT_TRUE(until([&] { return leases() == 0; }));
    EXPECT_EQ(can_fit(0), free);
    EXPECT_EQ(keeper_->count(".lease"), 0U);
}

TEST_F(Leases, OutliveTheGuardian) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    auto kept = reserve(10 * kMiB);
    auto closed = reserve(20 * kMiB);
    ASSERT_TRUE(kept && closed);
    kill_daemon();
    closed.reset();
    start_daemon();
    ASSERT_TRUE(wait_armed());
    EXPECT_EQ(leases(), 1U);
    EXPECT_EQ(number("PromisedBytes"), 10 * kMiB);
    EXPECT_TRUE(until([&] { return keeper_->count(".lease") == 1; }));
    kept.reset();
    EXPECT_TRUE(until([&] { return leases() == 0; }));
}

TEST_F(Leases, AreRefusedOnMeasuredSpaceOnly) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    auto old = reserve(60 * kMiB);
    ASSERT_TRUE(old);
    // Written meanwhile: what is measured counts.
    fill_until(70 * kMiB);
    EXPECT_FALSE(reserve(20 * kMiB));
    empty();
    EXPECT_TRUE(reserve(20 * kMiB));
}

TEST_F(Leases, HaveALimit) {
    write_config("", "MaxLeases=2");
    start_daemon();
    auto one = reserve(1);
    auto two = reserve(1);
    Reply refused;
    EXPECT_FALSE(reserve(1, &refused));
    EXPECT_EQ(refused.error, error::kTooManyLeases);
    two.reset();
    EXPECT_TRUE(until([&] { return leases() == 1; }));
    EXPECT_TRUE(reserve(1));
}

TEST_F(Leases, VolumesByAnyPath) {
    start_daemon();
    EXPECT_TRUE(reserve(1, nullptr, "/run/guarded/not/there/yet"));
    Reply refused;
    EXPECT_FALSE(reserve(1, &refused, "/proc"));
    EXPECT_EQ(refused.error, error::kNoSuchVolume);
    EXPECT_FALSE(reserve(1, &refused, "nonsense"));
    EXPECT_EQ(refused.error, error::kNoSuchVolume);
}

} // namespace
} // namespace thaw::diskguard
