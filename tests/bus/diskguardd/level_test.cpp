// SPDX-License-Identifier: MIT
#include "fixture.hpp"

#include <unistd.h>

namespace thaw::diskguard {
namespace {

using Levels = DiskguardTest;
using Strings = std::vector<std::string>;

TEST_F(Levels, AreSignalledAndTargetsFollow) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    ASSERT_TRUE(wait_text("Level", "normal"));
    levels_.clear();
    systemd_->clear_calls();
    fill_until(50 * kMiB);
    ASSERT_TRUE(wait_text("Level", "low"));
    fill_until(20 * kMiB);
    ASSERT_TRUE(wait_text("Level", "critical"));
    fill_until(kMiB);
    ASSERT_TRUE(wait_text("Level", "full"));
    EXPECT_EQ(levels_, (Strings{"normal>low", "low>critical", "critical>full"}));
    const auto active = [&](const char* unit) {
        return systemd_->unit(unit)->active_state == "active";
    };
    EXPECT_TRUE(until([&] {
        return active("thaw-disk-low@run-guarded.target") &&
               active("thaw-disk-critical@run-guarded.target") &&
               active("thaw-disk-full@run-guarded.target") && active("thaw-disk-emergency.target");
    }));
    EXPECT_EQ(systemd_->count_calls("StartUnit"), 4U);
    // A guardian that died leaves them; the next one knows.
    kill_daemon();
    empty();
    start_daemon();
    EXPECT_TRUE(until([&] {
        return !active("thaw-disk-emergency.target") &&
               !active("thaw-disk-full@run-guarded.target");
    }));
    fill_until(kMiB);
    ASSERT_TRUE(wait_text("Level", "full"));
    EXPECT_TRUE(until([&] { return active("thaw-disk-emergency.target"); }));
    empty();
    ASSERT_TRUE(wait_text("Level", "normal"));
    EXPECT_EQ(levels_.back(), "full>normal");
    EXPECT_TRUE(until([&] {
        return !active("thaw-disk-low@run-guarded.target") &&
               !active("thaw-disk-full@run-guarded.target") &&
               !active("thaw-disk-emergency.target");
    }));
}

TEST_F(Levels, InodesCount) {
    start_daemon();
    ASSERT_TRUE(wait_text("Level", "normal"));
    for (int i = 0; i < 9800; ++i)
        ASSERT_EQ(::symlink("x", fmt::format("{}/link{}", kMount, i).c_str()), 0);
    ASSERT_TRUE(wait_text("InodesLevel", "critical"));
    EXPECT_EQ(text("BytesLevel"), "normal");
    EXPECT_EQ(text("Level"), "critical");
}

TEST_F(Levels, WritersAreNotAskedForByDefault) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    fill_until(0);
    ASSERT_TRUE(wait_text("Level", "full"));
    EXPECT_EQ(text("Writers"), "continue");
    fakes::run_for(*loop_, 100 * kUsecPerMsec);
    EXPECT_TRUE(actions_.empty());
    EXPECT_EQ(chunks_on_disk(), 2U);
}

class Policy : public DiskguardTest {
protected:
    void report(const char* state) {
        auto message = new_call("ReportWriters");
        ASSERT_TRUE(message.append("ssut", kMount, state, 1U, std::uint64_t{0}));
        const auto reply = call(std::move(message));
        EXPECT_EQ(reply.error, "") << reply.text;
    }
};

TEST_F(Policy, AutomaticReleaseWaitsForTheWritersAndTheCooldown) {
    write_config("Release=auto\nWriters=pause\nReleaseCooldownSec=1h");
    start_daemon();
    ASSERT_TRUE(wait_armed());
    fill_until(0);
    ASSERT_TRUE(wait_text("Writers", "pause"));
    fakes::run_for(*loop_, 100 * kUsecPerMsec);
    EXPECT_EQ(chunks_on_disk(), 2U);
    EXPECT_EQ(actions_, Strings{"pause-writers"});
    report("paused");
    EXPECT_TRUE(until([&] { return actions_.size() == 2; }));
    EXPECT_EQ(chunks_on_disk(), 0U);
    // What the release gave is no room for the writers.
    fakes::run_for(*loop_, 200 * kUsecPerMsec);
    EXPECT_EQ(text("Writers"), "pause");
    empty();
    ASSERT_TRUE(wait_text("Writers", "continue"));
    ASSERT_TRUE(wait_armed());
    EXPECT_EQ(actions_, (Strings{"pause-writers", "release", "resume-writers"}));
    // Full once more within the cool-down.
    fill_until(0);
    ASSERT_TRUE(wait_text("Writers", "pause"));
    report("paused");
    fakes::run_for(*loop_, 200 * kUsecPerMsec);
    EXPECT_EQ(chunks_on_disk(), 2U);
}

TEST_F(Policy, ANewGuardianLetsNobodyLoose) {
    write_config("Release=auto\nWriters=pause\nReleaseCooldownSec=1h");
    start_daemon();
    ASSERT_TRUE(wait_armed());
    fill_until(0);
    ASSERT_TRUE(wait_text("Writers", "pause"));
    report("paused");
    ASSERT_TRUE(until([&] { return chunks_on_disk() == 0; }));
    ASSERT_TRUE(wait_text("Level", "critical")); // what the release gave, and no more
    kill_daemon();
    start_daemon();
    EXPECT_EQ(text("Writers"), "pause");
    fakes::run_for(*loop_, 300 * kUsecPerMsec);
    EXPECT_EQ(text("Writers"), "pause");
    empty();
    ASSERT_TRUE(wait_text("Writers", "continue"));
}

TEST_F(Levels, HooksRunOnOverARestart) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    fill_until(50 * kMiB);
    ASSERT_TRUE(wait_text("Level", "low"));
    ASSERT_TRUE(until([&] { return systemd_->count_calls("StartUnit") == 1; }));
    systemd_->clear_calls();
    kill_daemon();
    start_daemon();
    ASSERT_TRUE(wait_text("Level", "low"));
    fakes::run_for(*loop_, 200 * kUsecPerMsec);
    EXPECT_EQ(systemd_->count_calls("StopUnit"), 0U);
    EXPECT_EQ(systemd_->count_calls("StartUnit"), 0U);
}

} // namespace
} // namespace thaw::diskguard
