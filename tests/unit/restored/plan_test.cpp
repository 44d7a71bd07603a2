// SPDX-License-Identifier: MIT
#include "restore_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace thaw::restore {
namespace {

using Steps = std::vector<Step>;

void run_all(Plan& plan, const Steps& steps) {
    for (const auto step : steps) {
        plan.start(step);
        plan.finish(step);
    }
}

TEST(Plan, TheTableIsInTheOrderOfTheEnum) {
    ASSERT_EQ(step_table().size(), kStepCount);
    for (std::size_t i = 0; i < kStepCount; ++i)
        EXPECT_EQ(static_cast<std::size_t>(step_table()[i].step), i);
}

TEST(Plan, IndependentStepsRunSideBySide) {
    Plan plan;
    EXPECT_EQ(plan.ready(), (Steps{Step::OpenImage, Step::CheckUnit}));
    run_all(plan, {Step::OpenImage});
    EXPECT_EQ(plan.ready(), Steps{Step::CheckUnit});
    EXPECT_EQ(plan.state(), JobState::Preflight);
    run_all(plan, {Step::CheckUnit, Step::CheckSpace});
    EXPECT_EQ(plan.ready(), (Steps{Step::CreateSession, Step::WriteDropIn, Step::WriteTicket}));
    EXPECT_EQ(plan.state(), JobState::Preparing);
}

TEST(Plan, TheUnitStartsOnlyWhenAllIsPrepared) {
    const Steps preparing{
        Step::CreateSession, Step::AddShares, Step::AttachRootfs, Step::WriteTicket
    };
    for (const auto missing : preparing) {
        Plan plan;
        run_all(plan, {Step::OpenImage, Step::CheckUnit, Step::CheckSpace});
        run_all(plan, {Step::WriteDropIn, Step::StartRootfs});
        for (const auto step : preparing)
            if (step != missing) run_all(plan, {step});
        EXPECT_EQ(plan.ready(), Steps{missing});
        run_all(plan, {missing});
        EXPECT_EQ(plan.ready(), Steps{Step::StartUnit});
    }
}

// The servers' units name the VM's, and systemd loads both; a device needs its server.
TEST(Plan, SharesAndRootFileSystemComeAfterTheSettingsOfTheVm) {
    EXPECT_EQ(step_spec(Step::AddShares).needs, Steps{Step::WriteDropIn});
    EXPECT_EQ(step_spec(Step::StartRootfs).needs, Steps{Step::WriteDropIn});
    EXPECT_EQ(step_spec(Step::AttachRootfs).needs, Steps{Step::StartRootfs});
}

TEST(Plan, EveryStepFollowsInTurn) {
    Plan plan;
    JobState last = JobState::Queued;
    double progress = 0;
    while (!plan.complete()) {
        ASSERT_FALSE(plan.ready().empty());
        const auto step = plan.ready().front();
        plan.start(step);
        EXPECT_TRUE(plan.state() == last || may_follow(last, plan.state()));
        last = plan.state();
        EXPECT_FALSE(plan.stage().empty());
        plan.finish(step);
        EXPECT_GT(plan.progress(), progress);
        progress = plan.progress();
    }
    EXPECT_EQ(plan.state(), JobState::Done);
    EXPECT_DOUBLE_EQ(progress, 1);
    EXPECT_TRUE(plan.ready().empty());
}

TEST(Plan, FileMappingNeedsNoPagerAndNothingComesEarlier) {
    Plan plan;
    run_all(plan, {Step::OpenImage});
    plan.skip(Step::CreateSession);
    plan.skip(Step::AddShares);
    plan.skip(Step::StartRootfs);
    plan.skip(Step::AttachRootfs);
    plan.skip(Step::CheckTracking);
    plan.skip(Step::AwaitServing);
    const std::vector<Steps> expected{
        {Step::CheckUnit}, {Step::CheckSpace},  {Step::WriteDropIn, Step::WriteTicket},
        {Step::StartUnit}, {Step::AwaitApi},    {Step::LoadSnapshot},
        {Step::ResumeVm},  {Step::ConfirmUnit},
    };
    for (const auto& steps : expected) {
        EXPECT_EQ(plan.ready(), steps);
        run_all(plan, steps);
    }
    EXPECT_TRUE(plan.complete());
}

// What it has written before the look could not be told any more.
TEST(Plan, ATrackedVmRunsOnlyOnceItsDevicesWereLookedAt) {
    const auto& before = step_spec(Step::ResumeVm).needs;
    EXPECT_NE(std::find(before.begin(), before.end(), Step::CheckTracking), before.end());
    EXPECT_EQ(step_spec(Step::CheckTracking).needs, Steps{Step::LoadSnapshot});
}

TEST(PlanDeath, AStepIsNotFinishedBeforeItIsStarted) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(Plan().finish(Step::OpenImage), "");
}

TEST(UndoOrder, TheUnitIsAlwaysFirst) {
    using enum Undo;
    EXPECT_EQ(
        undo_order(
            {.unit = true,
             .session = true,
             .drop_in = true,
             .ticket = true,
             .shares = true,
             .rootfs = true,
             .base = true}
        ),
        (std::vector{
            StopUnit, CloseSession, RemoveShares, StopRootfs, ReleaseBase, RemoveDropIn,
            RemoveTicket
        })
    );
    for (unsigned bits = 0; bits < 32; ++bits) {
        const Made made{
            (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0, (bits & 16) != 0
        };
        const auto order = undo_order(made);
        EXPECT_EQ(order.size(), static_cast<std::size_t>(__builtin_popcount(bits)));
        if (made.unit) {
            EXPECT_EQ(order.front(), StopUnit);
        }
        EXPECT_EQ(std::count(order.begin(), order.end(), StopUnit), made.unit ? 1 : 0);
    }
}

TEST(JobState, TransitionsGoForwardToAnEnd) {
    using enum JobState;
    EXPECT_TRUE(may_follow(Queued, Preflight));
    EXPECT_TRUE(may_follow(Preparing, Loading));
    EXPECT_TRUE(may_follow(Queued, Undoing));
    EXPECT_TRUE(may_follow(Proving, Done));
    EXPECT_TRUE(may_follow(Undoing, Timeout));
    EXPECT_FALSE(may_follow(Loading, Preparing));
    EXPECT_FALSE(may_follow(Undoing, Loading));
    EXPECT_FALSE(may_follow(Undoing, Undoing));
    EXPECT_FALSE(may_follow(Done, Undoing));
    EXPECT_FALSE(may_follow(Failed, Done));
}

TEST(InstanceState, StoppingIsForGood) {
    using enum InstanceState;
    EXPECT_TRUE(may_follow(Restoring, Running));
    EXPECT_TRUE(may_follow(Running, Paused));
    EXPECT_TRUE(may_follow(Paused, Running));
    EXPECT_TRUE(may_follow(Restoring, Stopping));
    EXPECT_FALSE(may_follow(Stopping, Running));
    EXPECT_FALSE(may_follow(Running, Restoring));
}

} // namespace
} // namespace thaw::restore
