// SPDX-License-Identifier: MIT
#include "limits.hpp"
#include "share_options.hpp"

#include <gtest/gtest.h>

namespace thaw::sharesd {
namespace {

constexpr std::string_view kLimits =
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max processes             1024                 2048                 processes \n"
    "Max open files            16384                20000                files     \n"
    "Max locked memory         unlimited            unlimited            bytes     \n";

TEST(ParseLimits, TheRowOfFiles) {
    const auto limits = parse_limits(kLimits).value();
    EXPECT_EQ(limits.soft, 16384U);
    EXPECT_EQ(limits.hard, 20000U);
    EXPECT_EQ(parse_limits("Max open files unlimited unlimited files").value().hard, kInfinity);
    for (const char* bad : {"", "Max open files", "Max open files x y files", "Max open files 1\n"})
        EXPECT_FALSE(parse_limits(bad)) << bad;
}

TEST(JudgeLimit, NeverSilentlyLower) {
    EXPECT_EQ(judge_limit(524288, 524288, OnLowLimit::Fail), LimitVerdict::Enough);
    EXPECT_EQ(judge_limit(16384, 20000, OnLowLimit::Fail), LimitVerdict::Enough);
    EXPECT_EQ(judge_limit(524288, 20000, OnLowLimit::Fail), LimitVerdict::TooLow);
    EXPECT_EQ(judge_limit(524288, 20000, OnLowLimit::Degraded), LimitVerdict::Degraded);
    EXPECT_EQ(clamp_limit(524288, 1048576), 524288U);
    EXPECT_EQ(clamp_limit(2000000, 1048576), 1048576U);
}

TEST(GuestBudget, WhatTheDaemonKeepsBack) {
    // As virtiofsd 1.13.2 says itself: 1024 leaves 414, 700 leaves 90.
    EXPECT_EQ(guest_budget(1024, Dialect::Rust, 0), 414U);
    EXPECT_EQ(guest_budget(700, Dialect::RustNext, 0), 90U);
    EXPECT_EQ(guest_budget(1024, Dialect::Rust, 16), 399U);
    EXPECT_EQ(guest_budget(609, Dialect::Rust, 0), 0U);
    EXPECT_EQ(guest_budget(kInfinity, Dialect::Rust, 0), kInfinity);
    // The C one keeps nothing: 2032 inodes of a limit of 2048.
    EXPECT_EQ(guest_budget(2048, Dialect::C, 0), 2032U);
}

TEST(GuestUse, WithoutTheDaemonsOwn) {
    EXPECT_EQ(guest_use(12, Dialect::Rust), 0U);
    EXPECT_EQ(guest_use(10121, Dialect::Rust), 10103U);
    EXPECT_EQ(guest_use(10118, Dialect::C), 10102U);
    EXPECT_TRUE(is_exhausted(414, 414));
    EXPECT_TRUE(is_exhausted(411, 414));
    EXPECT_FALSE(is_exhausted(400, 414));
}

TEST(Words, Accounts) {
    for (const char* good : {"libvirt-qemu", "_x", "1000", "a"})
        EXPECT_TRUE(is_valid_account(good)) << good;
    for (const char* bad :
         {"", "-a", "a b", "a\nUser=root", "a%i", "99999999999", "abcdefghijklmnopqrstuvwxyz0123456"
         })
        EXPECT_FALSE(is_valid_account(bad)) << bad;
}

TEST(Words, IdMaps) {
    for (const char* good : {"map:1000:1001:1", "forbid-guest:0:10", "squash-host:0:0:4294967295"})
        EXPECT_TRUE(is_valid_id_map(good)) << good;
    for (const char* bad :
         {"", "map", "map:", "map:1", "map:a:b:c", "map:1:2:3:4", "evil:1:2:3",
          "map:1:2:", "map:-1:2:3", "map:1 2:3"})
        EXPECT_FALSE(is_valid_id_map(bad)) << bad;
}

TEST(Words, Units) {
    EXPECT_TRUE(is_valid_unit("thaw-firecracker@a\\x2db.service"));
    for (const char* bad : {"", "x", "a b.service", "a/b.service", "a%i.service", "a\n.service"})
        EXPECT_FALSE(is_valid_unit(bad)) << bad;
}

} // namespace
} // namespace thaw::sharesd
