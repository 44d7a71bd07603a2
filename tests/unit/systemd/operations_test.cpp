// SPDX-License-Identifier: MIT
#include "systemd_fixture.hpp"

#include <signal.h>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

class Jobs : public SystemdTest {};

TEST_F(Jobs, StartAndStop) {
    auto start = start_unit();
    EXPECT_EQ(finish(start), "done");
    EXPECT_EQ(systemd->unit(kUnit)->active_state, "active");
    EXPECT_EQ(systemd->calls().back().mode, "fail");
    auto stop = stop_unit();
    EXPECT_EQ(finish(stop), "done");
    EXPECT_EQ(systemd->unit(kUnit)->active_state, "inactive");
    EXPECT_EQ(systemd->calls().back().mode, "replace");
}

TEST_F(Jobs, ResultOfTheJobIsPassedOn) {
    for (const char* word : {"failed", "canceled", "timeout", "dependency", "skipped"}) {
        systemd->plan_start(kUnit, {.job_result = word, .active_state = "inactive"});
        auto start = start_unit();
        EXPECT_EQ(finish(start), word);
    }
}

TEST_F(Jobs, RemovedBeforeTheReplyIsNotLost) {
    systemd->plan_start(
        kUnit, {.reply_delay = 30 * kUsecPerMsec, .removed_first = true, .job_result = "failed"}
    );
    auto start = start_unit();
    EXPECT_EQ(finish(start), "failed");
}

TEST_F(Jobs, RemovedOfAnotherJobEndsNothing) {
    systemd->add_unit("other.service");
    systemd->plan_start(kUnit, {.never_finish = true});
    auto mine = start_unit();
    ASSERT_TRUE(until([&] { return systemd->has_job(kUnit); }));
    auto other = start_unit("other.service");
    EXPECT_EQ(finish(other), "done");
    fakes::run_for(*loop, 20 * kUsecPerMsec);
    EXPECT_EQ(mine->word(), "pending");
    EXPECT_TRUE(systemd->finish_job(kUnit, "timeout"));
    EXPECT_EQ(finish(mine), "timeout");
}

TEST_F(Jobs, ManyAtOnceEachGetTheirOwn) {
    std::vector<std::unique_ptr<Outcome>> all;
    for (int i = 0; i < 100; ++i) {
        const auto unit = fmt::format("u{}.service", i);
        systemd->add_unit(unit);
        systemd->plan_start(
            unit, {.reply_delay = i % 2 ? 0 : 5 * kUsecPerMsec,
                   .removed_first = i % 3 == 0,
                   .job_delay = static_cast<Microseconds>(i % 7) * kUsecPerMsec,
                   .job_result = i % 5 == 0 ? "failed" : "done"}
        );
        all.push_back(start_unit(unit));
    }
    for (int i = 0; i < 100; ++i)
        EXPECT_EQ(finish(all[static_cast<std::size_t>(i)]), i % 5 == 0 ? "failed" : "done") << i;
}

TEST_F(Jobs, StartOfAnUnknownUnitFails) {
    auto start = start_unit("nothing.service");
    EXPECT_EQ(finish(start), "error org.freedesktop.systemd1.NoSuchUnit");
    EXPECT_EQ(start->result->error().code(), ENOENT);
}

TEST_F(Jobs, StopOfWhatIsNotLoadedIsDone) {
    auto unknown = stop_unit("nothing.service");
    EXPECT_EQ(finish(unknown), "done");
    systemd->plan_stop(kUnit, {.error_name = std::string(kErrorLoadFailed)});
    auto unreadable = stop_unit();
    EXPECT_EQ(finish(unreadable), "done");
}

TEST_F(Jobs, OtherErrorsOfStopAreErrors) {
    systemd->plan_stop(kUnit, {.error_name = "org.freedesktop.systemd1.TransactionIsDestructive"});
    auto stop = stop_unit();
    EXPECT_EQ(finish(stop), "error");
}

TEST_F(Jobs, DroppedOperationIsNeverHeardOf) {
    systemd->plan_start(kUnit, {.job_delay = 20 * kUsecPerMsec});
    auto first = start_unit();
    first->handle.reset();
    fakes::run_for(*loop, 60 * kUsecPerMsec);
    EXPECT_EQ(first->word(), "pending");
    EXPECT_EQ(systemd->unit(kUnit)->active_state, "active") << "the job itself goes on";
}

TEST_F(Jobs, HandlerMayDropItsOperationAndStartAnother) {
    SystemdHandle handle;
    std::string second;
    handle = client->start_unit(kUnit, "fail", [&](Result<std::string>) {
        handle = client->stop_unit(kUnit, "replace", [&](Result<std::string> r) {
            handle.reset();
            second = r ? *r : "error";
        });
    });
    EXPECT_TRUE(until([&] { return second == "done"; }));
}

TEST_F(Jobs, OperationsOutliveTheClient) {
    systemd->plan_start(kUnit, {.job_delay = 20 * kUsecPerMsec});
    auto start = start_unit();
    unsigned heard = 0;
    auto watch = client->watch_unit(kUnit, [&](const UnitState&) { ++heard; });
    auto kill = client->kill_unit(kUnit, "all", SIGTERM, [&](Result<>) { ++heard; });
    auto state = client->read_unit(kUnit, [&](Result<UnitState>) { ++heard; });
    client.reset();
    fakes::run_for(*loop, 60 * kUsecPerMsec);
    EXPECT_EQ(heard, 0U);
    EXPECT_EQ(start->word(), "pending");
}

// A signal that names our job, but from somebody who is not systemd.
TEST_F(Jobs, ForgedJobRemovedIsIgnored) {
    systemd->plan_start(kUnit, {.never_finish = true});
    auto start = start_unit();
    ASSERT_TRUE(until([&] { return systemd->has_job(kUnit); }));
    fakes::run_for(*loop, 20 * kUsecPerMsec);
    auto liar = connect();
    const char* target = nullptr;
    ASSERT_GE(sd_bus_get_unique_name(bus->get(), &target), 0);
    sd_bus_message* forged = nullptr;
    ASSERT_GE(
        sd_bus_message_new_signal(
            liar.get(), &forged, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
            "JobRemoved"
        ),
        0
    );
    for (std::uint32_t id = 1; id < 2; ++id)
        ASSERT_GE(
            sd_bus_message_append(
                forged, "uoss", id, "/org/freedesktop/systemd1/job/1", kUnit, "done"
            ),
            0
        );
    ASSERT_GE(sd_bus_message_set_destination(forged, target), 0);
    ASSERT_GE(sd_bus_send(nullptr, forged, nullptr), 0);
    sd_bus_message_unref(forged);
    fakes::run_for(*loop, 100 * kUsecPerMsec);
    EXPECT_EQ(start->word(), "pending");
    systemd->finish_job(kUnit, "failed");
    EXPECT_EQ(finish(start), "failed");
}

class Calls : public SystemdTest {
public:
    template <class Ask>
    Result<> ask(Ask start) {
        std::optional<Result<>> answer;
        SystemdHandle handle = start([&](Result<> done) { answer = std::move(done); });
        EXPECT_FALSE(answer);
        if (!until([&] { return answer.has_value(); })) return fail(ETIMEDOUT, "no answer");
        return std::move(*answer);
    }
};

TEST_F(Calls, KillNamesWhoAndSignal) {
    EXPECT_TRUE(ask([&](auto h) { return client->kill_unit(kUnit, "all", SIGKILL, h); }));
    const auto& call = systemd->calls().back();
    EXPECT_EQ(call.unit, kUnit);
    EXPECT_EQ(call.mode, "all");
    EXPECT_EQ(call.signal, SIGKILL);
    auto missing = ask([&](auto h) { return client->kill_unit("no.service", "all", 9, h); });
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().bus_name(), kErrorNoSuchUnit);
    systemd->set_kill_error(std::string(kErrorNoSuchProcess));
    auto nobody = ask([&](auto h) { return client->kill_unit(kUnit, "main", 9, h); });
    ASSERT_FALSE(nobody);
    EXPECT_EQ(nobody.error().code(), ESRCH);
}

TEST_F(Calls, ResetFailed) {
    systemd->end_unit(kUnit, "exit-code");
    EXPECT_TRUE(ask([&](auto h) { return client->reset_failed(kUnit, h); }));
    EXPECT_EQ(systemd->unit(kUnit)->active_state, "inactive");
    EXPECT_TRUE(ask([&](auto h) { return client->reset_failed("no.service", h); }));
}

TEST_F(Calls, AttachProcesses) {
    EXPECT_TRUE(ask([&](auto h) { return client->attach_processes(kUnit, {12, 34}, h); }));
    EXPECT_EQ(systemd->calls().back().pids, (std::vector<std::uint32_t>{12, 34}));
    EXPECT_FALSE(ask([&](auto h) { return client->attach_processes("no.service", {1}, h); }));
}

TEST_F(Calls, UnitOfPid) {
    systemd->set_pid_unit(77, "thaw-firecracker@a\\x2db.service");
    std::optional<Result<std::string>> unit, none;
    auto known = client->unit_of_pid(77, [&](Result<std::string> u) { unit = std::move(u); });
    auto unknown = client->unit_of_pid(78, [&](Result<std::string> u) { none = std::move(u); });
    ASSERT_TRUE(until([&] { return unit && none; }));
    ASSERT_TRUE(*unit);
    EXPECT_EQ(**unit, "thaw-firecracker@a\\x2db.service");
    ASSERT_FALSE(*none);
    EXPECT_EQ(none->error().bus_name(), kErrorNoUnitForPid);
}

TEST_F(Calls, ReadTellsEverything) {
    systemd->change_unit(kUnit, [](fakes::FakeUnit& unit) {
        unit.active_state = "failed";
        unit.sub_state = "failed";
        unit.result = "oom-kill";
        unit.main_pid = 0;
        unit.exec_main_code = CLD_KILLED;
        unit.exec_main_status = SIGKILL;
    });
    auto state = read();
    ASSERT_TRUE(state);
    EXPECT_EQ(state->load_state, "loaded");
    EXPECT_TRUE(state->is_gone());
    EXPECT_EQ(state->sub_state, "failed");
    EXPECT_EQ(state->result, "oom-kill");
    EXPECT_EQ(state->exec_main_code, CLD_KILLED);
    EXPECT_EQ(state->exec_main_status, SIGKILL);
}

TEST_F(Calls, ReadOfAUnitThatDoesNotExist) {
    auto state = read("nothing.service");
    ASSERT_TRUE(state);
    EXPECT_EQ(state->load_state, "not-found");
    EXPECT_EQ(state->active_state, "inactive");
    EXPECT_TRUE(state->is_gone());
    auto nonsense = read("no-suffix"); // systemd knows no such object at all
    ASSERT_TRUE(nonsense);
    EXPECT_EQ(nonsense->load_state, "not-found");
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
