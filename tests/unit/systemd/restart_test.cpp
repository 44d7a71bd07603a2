// SPDX-License-Identifier: MIT
#include "systemd_fixture.hpp"

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

// systemd leaves the bus and comes back (daemon-reexec), or is not there at all.
class Restart : public SystemdTest {
public:
    void come_back() {
        ASSERT_TRUE(systemd->come_back(connect()));
        ASSERT_TRUE(until([&] { return systemd->owns_name(); }));
    }
    // A job that systemd has accepted and that does not end by itself.
    std::unique_ptr<Outcome> running_start() {
        systemd->plan_start(kUnit, {.never_finish = true});
        auto start = start_unit();
        EXPECT_TRUE(until([&] { return systemd->has_job(kUnit); }));
        fakes::run_for(*loop, 20 * kUsecPerMsec); // the reply is here
        return start;
    }
};

TEST_F(Restart, SubscribesAgain) {
    systemd->vanish();
    come_back();
    EXPECT_TRUE(until([&] { return systemd->subscribers() == 1; }));
    auto start = start_unit();
    EXPECT_EQ(finish(start), "done");
}

TEST_F(Restart, WatchedUnitIsReadAgain) {
    std::vector<UnitState> states;
    auto handle =
        client->watch_unit(kUnit, [&](const UnitState& state) { states.push_back(state); });
    ASSERT_TRUE(until([&] { return states.size() == 1; }));
    systemd->vanish();
    systemd->unit(kUnit)->active_state = "failed"; // nobody announced it
    come_back();
    ASSERT_TRUE(until([&] { return states.back().active_state == "failed"; }));
}

TEST_F(Restart, JobThatSurvivesIsAwaited) {
    auto start = running_start();
    systemd->vanish();
    come_back();
    ASSERT_TRUE(until([&] { return systemd->subscribers() == 1; }));
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_EQ(start->word(), "pending");
    systemd->finish_job(kUnit, "timeout");
    EXPECT_EQ(finish(start), "timeout");
}

TEST_F(Restart, ForgottenJobIsJudgedByItsUnit) {
    auto start = running_start();
    systemd->vanish();
    systemd->forget_jobs();
    systemd->unit(kUnit)->active_state = "active";
    come_back();
    EXPECT_EQ(finish(start), "done");

    auto stop = [&] {
        systemd->plan_stop(kUnit, {.never_finish = true});
        auto outcome = stop_unit();
        until([&] { return systemd->has_job(kUnit); });
        fakes::run_for(*loop, 20 * kUsecPerMsec);
        return outcome;
    }();
    systemd->vanish();
    systemd->forget_jobs();
    systemd->unit(kUnit)->active_state = "active";
    come_back();
    EXPECT_EQ(finish(stop), "failed") << "the unit is still there";
}

TEST_F(Restart, FailedStartIsNotTakenForDone) {
    auto start = running_start();
    systemd->vanish();
    systemd->forget_jobs();
    systemd->unit(kUnit)->active_state = "failed";
    come_back();
    EXPECT_EQ(finish(start), "failed");
}

TEST_F(Restart, NumberGivenToAnotherUnitsJobIsNoticed) {
    auto start = running_start(); // job 1 of the fake
    systemd->vanish();
    auto fresh = fakes::FakeSystemd::create(*loop, connect());
    ASSERT_TRUE(fresh);
    systemd = std::move(*fresh); // counts from 1 again
    systemd->add_unit(kUnit, {.active_state = "failed"});
    systemd->add_job("other.service");
    EXPECT_EQ(finish(start), "failed");
    EXPECT_TRUE(systemd->has_job("other.service"));
}

TEST_F(Restart, CallWithoutAnAnswerEndsWhenSystemdLeaves) {
    systemd->plan_start(kUnit, {.never_reply = true});
    auto start = start_unit();
    ASSERT_TRUE(until([&] { return systemd->count_calls("StartUnit") == 1; }));
    systemd->vanish();
    EXPECT_TRUE(finish(start).starts_with("error"));
}

TEST_F(Restart, ReloadReadsWatchedUnitsAndJobsAgain) {
    std::vector<UnitState> states;
    auto handle =
        client->watch_unit(kUnit, [&](const UnitState& state) { states.push_back(state); });
    ASSERT_TRUE(until([&] { return states.size() == 1; }));
    systemd->unit(kUnit)->active_state = "failed";
    systemd->reload();
    EXPECT_TRUE(until([&] { return states.back().active_state == "failed"; }));
}

class WithoutSystemd : public SystemdTest {
public:
    bool systemd_first() const override { return false; }
};

TEST_F(WithoutSystemd, EverythingIsAnsweredWithAnError) {
    auto start = start_unit();
    auto stop = stop_unit();
    EXPECT_TRUE(finish(start).starts_with("error"));
    EXPECT_TRUE(finish(stop).starts_with("error")) << "nobody says that it has stopped";
    EXPECT_FALSE(read());
}

TEST_F(WithoutSystemd, WorksOnceSystemdIsThere) {
    std::vector<UnitState> states;
    auto handle =
        client->watch_unit(kUnit, [&](const UnitState& state) { states.push_back(state); });
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_TRUE(states.empty());
    start_systemd();
    ASSERT_TRUE(until([&] { return systemd->subscribers() == 1; }));
    ASSERT_TRUE(until([&] { return !states.empty(); }));
    auto start = start_unit();
    EXPECT_EQ(finish(start), "done");
    EXPECT_TRUE(until([&] { return states.back().active_state == "active"; }));
}

TEST_F(SystemdTest, BusThatDiesEndsOperations) {
    systemd->plan_start(kUnit, {.never_reply = true});
    auto start = start_unit();
    ASSERT_TRUE(until([&] { return systemd->count_calls("StartUnit") == 1; }));
    daemon->kill();
    EXPECT_TRUE(finish(start).starts_with("error"));
    auto after = start_unit();
    EXPECT_TRUE(finish(after).starts_with("error"));
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
