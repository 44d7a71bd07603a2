// SPDX-License-Identifier: MIT
#include "action_policy.hpp"

#include <gtest/gtest.h>

namespace thaw::diskguard {
namespace {

TEST(Writers, ContinueIsNeverOverruled) {
    EXPECT_EQ(
        decide_writers(Writers::Continue, Writers::Continue, Level::Full, Level::Full),
        Writers::Continue
    );
}

TEST(Writers, PausedAtFullAndUntilThereIsRoomWithoutTheReserve) {
    const auto decide = [](Writers current, Level level, Level without) {
        return decide_writers(Writers::Pause, current, level, without);
    };
    EXPECT_EQ(decide(Writers::Continue, Level::Critical, Level::Full), Writers::Continue);
    EXPECT_EQ(decide(Writers::Continue, Level::Full, Level::Full), Writers::Pause);
    // A release made room, but only the reserve's own.
    EXPECT_EQ(decide(Writers::Pause, Level::Normal, Level::Full), Writers::Pause);
    EXPECT_EQ(decide(Writers::Pause, Level::Low, Level::Critical), Writers::Pause);
    EXPECT_EQ(decide(Writers::Pause, Level::Low, Level::Low), Writers::Continue);
    // Not measured is no reason to let them loose.
    EXPECT_EQ(decide(Writers::Pause, Level::Unknown, Level::Unknown), Writers::Pause);
}

TEST(AutomaticRelease, OnlyAtFullWithStoppedWritersAfterTheCooldown) {
    const AutoRelease good{
        .policy = ReleasePolicy::Auto,
        .level = Level::Full,
        .releasable = 1,
        .writers_stopped = true,
        .cooldown = 100,
    };
    EXPECT_TRUE(wants_release(good, 0));
    auto other = good;
    other.policy = ReleasePolicy::Manual;
    EXPECT_FALSE(wants_release(other, 0));
    other = good;
    other.level = Level::Critical;
    EXPECT_FALSE(wants_release(other, 0));
    other = good;
    other.releasable = 0;
    EXPECT_FALSE(wants_release(other, 0));
    other = good;
    other.writers_stopped = false;
    EXPECT_FALSE(wants_release(other, 0));
    other = good;
    other.last = 1000;
    EXPECT_FALSE(wants_release(other, 1099));
    EXPECT_TRUE(wants_release(other, 1100));
}

TEST(Hooks, PathsAreEscapedAsSystemdDoes) {
    // As systemd-escape --path answers.
    EXPECT_EQ(path_escape("/"), "-");
    EXPECT_EQ(path_escape("/var/lib/thaw/images"), "var-lib-thaw-images");
    EXPECT_EQ(path_escape("//srv//vm-data/"), "srv-vm\\x2ddata");
    EXPECT_EQ(path_escape("/.hidden/a.b_c:d"), "\\x2ehidden-a.b_c:d");
    EXPECT_EQ(path_escape("/\xc3\xa4"), "\\xc3\\xa4");
}

TEST(Hooks, WorseLevelsKeepTheTargetsOfBetterOnes) {
    EXPECT_TRUE(level_targets("/", Level::Normal).empty());
    EXPECT_TRUE(level_targets("/", Level::Unknown).empty());
    EXPECT_EQ(
        level_targets("/srv", Level::Low), std::vector<std::string>{"thaw-disk-low@srv.target"}
    );
    EXPECT_EQ(
        level_targets("/srv", Level::Full),
        (std::vector<std::string>{
            "thaw-disk-low@srv.target", "thaw-disk-critical@srv.target", "thaw-disk-full@srv.target"
        })
    );
}

} // namespace
} // namespace thaw::diskguard
