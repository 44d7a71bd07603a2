// SPDX-License-Identifier: MIT
#include "space.hpp"

#include <gtest/gtest.h>

namespace thaw::restore {
namespace {

using diskguard1::Writers;
using Changes = std::vector<WriterPlan::Change>;

guard::VolumeView volume(const char* id, Writers writers) {
    return {.id = id, .level = diskguard1::Level::Full, .writers = writers};
}

Writer writer(const char* name, InstanceState state, const char* paused_for = "") {
    return {
        .name = name,
        .state = state,
        .busy = false,
        .paused_for = paused_for,
        .volumes = {"a"},
    };
}

TEST(WrittenPaths, AreTheWritableDrivesOfOthers) {
    image::Manifest manifest;
    manifest.drives = {
        {.id = "root", .path = "/srv/root.ext4", .read_only = true},
        {.id = "data", .path = "/srv/data.ext4"},
        {.id = "raw", .path = "/dev/sdb"},
        {.id = "own", .path = "scratch.img"},
    };
    EXPECT_EQ(written_paths(manifest), std::vector<std::string>{"/srv/data.ext4"});
    EXPECT_TRUE(written_paths(manifest, "data").empty());
}

TEST(WriterPlan, PausesWhoWritesToAVolumeThatAsksForIt) {
    auto elsewhere = writer("elsewhere", InstanceState::Running);
    elsewhere.volumes = {"b"};
    const auto plan = plan_writers(
        {volume("a", Writers::Pause), volume("b", Writers::Continue)},
        {writer("one", InstanceState::Running), elsewhere, writer("by-hand", InstanceState::Paused)}
    );
    EXPECT_EQ(plan.pause, (Changes{{"one", "a"}}));
    EXPECT_TRUE(plan.resume.empty());
    EXPECT_FALSE(plan.settled.contains("a"));
    EXPECT_EQ(plan.settled.at("b"), (WriterPlan::Settled{false, 0}));
}

TEST(WriterPlan, SettledWhenNobodyWritesAnyMore) {
    const auto plan = plan_writers(
        {volume("a", Writers::Pause)},
        {writer("one", InstanceState::Paused, "a"), writer("by-hand", InstanceState::Paused)}
    );
    EXPECT_TRUE(plan.pause.empty());
    EXPECT_EQ(plan.settled.at("a"), (WriterPlan::Settled{true, 1}));
    EXPECT_EQ(plan_writers({volume("a", Writers::Pause)}, {}).settled.at("a").stopped, true);
}

TEST(WriterPlan, ABusyWriterIsWaitedFor) {
    auto busy = writer("busy", InstanceState::Running);
    busy.busy = true;
    const auto plan = plan_writers({volume("a", Writers::Pause)}, {busy});
    EXPECT_TRUE(plan.pause.empty());
    EXPECT_FALSE(plan.settled.contains("a"));
}

TEST(WriterPlan, ResumesOnlyWhomItPaused) {
    const auto plan = plan_writers(
        {volume("a", Writers::Continue)},
        {writer("ours", InstanceState::Paused, "a"), writer("by-hand", InstanceState::Paused),
         writer("woken", InstanceState::Running, "a")}
    );
    EXPECT_EQ(plan.resume, (Changes{{"ours", "a"}}));
    EXPECT_EQ(plan.forget, std::vector<std::string>{"woken"});
    EXPECT_TRUE(plan.pause.empty());
}

TEST(WriterPlan, WhoWasResumedByHandIsLeftRunningAndNoSecret) {
    const auto plan =
        plan_writers({volume("a", Writers::Pause)}, {writer("woken", InstanceState::Running, "a")});
    EXPECT_TRUE(plan.pause.empty());
    EXPECT_EQ(plan.settled.at("a"), (WriterPlan::Settled{false, 0})) << "it writes on";
}

TEST(WriterPlan, AVolumeThatNobodyHasLookedAtChangesNothing) {
    auto unknown = volume("a", Writers::Continue);
    unknown.level = diskguard1::Level::Unknown;
    const auto plan = plan_writers({unknown}, {writer("ours", InstanceState::Paused, "a")});
    EXPECT_TRUE(plan.resume.empty());
    EXPECT_TRUE(plan.settled.empty());
}

} // namespace
} // namespace thaw::restore
