// SPDX-License-Identifier: MIT
#include "systemd_fixture.hpp"

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

class Watch : public SystemdTest {
public:
    SystemdHandle watch(std::vector<UnitState>& into, const std::string& unit = kUnit) {
        return client->watch_unit(unit, [&into](const UnitState& s) { into.push_back(s); });
    }
    bool last_is(const std::vector<UnitState>& states, const std::string& active) {
        return until([&] { return !states.empty() && states.back().active_state == active; });
    }
};

TEST_F(Watch, ToldAtOnceAndAfterChanges) {
    std::vector<UnitState> states;
    auto handle = watch(states);
    EXPECT_TRUE(states.empty()) << "called from inside watch_unit()";
    ASSERT_TRUE(last_is(states, "inactive"));
    auto start = start_unit();
    ASSERT_TRUE(last_is(states, "active"));
    systemd->end_unit(kUnit, "signal");
    ASSERT_TRUE(last_is(states, "failed"));
    EXPECT_EQ(states.back().result, "signal");
}

TEST_F(Watch, SameStateIsNotToldTwice) {
    std::vector<UnitState> states;
    auto handle = watch(states);
    ASSERT_TRUE(until([&] { return states.size() == 1; }));
    for (int i = 0; i < 5; ++i)
        systemd->change_unit(kUnit, [](fakes::FakeUnit&) {});
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_EQ(states.size(), 1U);
}

TEST_F(Watch, OnlyItsOwnUnit) {
    std::vector<UnitState> states;
    systemd->add_unit("other.service");
    auto handle = watch(states);
    ASSERT_TRUE(until([&] { return states.size() == 1; }));
    systemd->end_unit("other.service", "exit-code");
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_EQ(states.size(), 1U);
}

// A change during a read must lead to another read: the reply may be older than the change.
TEST_F(Watch, LastStateIsNeverMissed) {
    for (int round = 0; round < 50; ++round) {
        std::vector<UnitState> states;
        auto handle = watch(states);
        for (int i = 0; i < round % 7; ++i)
            (void)loop->run_once(kUsecPerMsec);
        systemd->end_unit(kUnit, "exit-code");
        (void)loop->run_once(0);
        systemd->change_unit(kUnit, [](fakes::FakeUnit& unit) {
            unit.active_state = "active";
            unit.sub_state = "running";
        });
        ASSERT_TRUE(last_is(states, "active")) << round;
    }
}

TEST_F(Watch, UnloadedUnitIsInactive) {
    systemd->change_unit(kUnit, [](fakes::FakeUnit& unit) {
        unit.active_state = "active";
        unit.sub_state = "running";
        unit.main_pid = 99;
    });
    std::vector<UnitState> states;
    auto handle = watch(states);
    ASSERT_TRUE(last_is(states, "active"));
    systemd->unload_unit(kUnit);
    ASSERT_TRUE(last_is(states, "inactive"));
    EXPECT_EQ(states.back().main_pid, 0);
    EXPECT_EQ(states.back().sub_state, "dead");
}

TEST_F(Watch, FailureIsRememberedWhenTheUnitIsUnloaded) {
    std::vector<UnitState> states;
    auto handle = watch(states);
    systemd->end_unit(kUnit, "oom-kill");
    ASSERT_TRUE(last_is(states, "failed"));
    systemd->unload_unit(kUnit);
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_EQ(states.back().active_state, "failed");
    EXPECT_EQ(states.back().result, "oom-kill");
}

// Looking at a unit that nobody needs makes systemd announce and drop it; reacting to that with
// another look would never end.
TEST_F(Watch, NonexistentUnitIsNotReadAgainAndAgain) {
    std::vector<UnitState> states;
    unsigned announced = 0;
    auto match = bus->match_signal(
        "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
        "UnitNew", [&](BusMessage&) { ++announced; }
    );
    ASSERT_TRUE(match);
    auto handle = watch(states, "nothing.service");
    ASSERT_TRUE(until([&] { return !states.empty(); }));
    fakes::run_for(*loop, 200 * kUsecPerMsec);
    EXPECT_EQ(states.size(), 1U);
    EXPECT_EQ(states[0].load_state, "not-found");
    EXPECT_LE(announced, 2U);
    EXPECT_LE(systemd->count_calls("GetUnit"), 4U);
}

TEST_F(Watch, UnitThatAppearsLaterIsSeen) {
    std::vector<UnitState> states;
    systemd->unload_unit(kUnit);
    auto handle = watch(states);
    ASSERT_TRUE(until([&] { return !states.empty(); }));
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    auto start = start_unit();
    ASSERT_TRUE(last_is(states, "active"));
}

TEST_F(Watch, HandlerMayDropItsWatch) {
    SystemdHandle handle;
    unsigned heard = 0;
    auto token = std::make_shared<int>(5);
    handle = client->watch_unit(kUnit, [&, token](const UnitState&) {
        handle.reset();
        heard += static_cast<unsigned>(*token);
    });
    ASSERT_TRUE(until([&] { return heard != 0; }));
    systemd->end_unit(kUnit, "exit-code");
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_EQ(heard, 5U);
}

TEST_F(Watch, DroppedWatchIsSilent) {
    std::vector<UnitState> states;
    auto handle = watch(states);
    handle.reset();
    systemd->end_unit(kUnit, "exit-code");
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_TRUE(states.empty());
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
