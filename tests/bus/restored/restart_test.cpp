// SPDX-License-Identifier: MIT
// The daemon is killed at every stage: afterwards the VM is known and runs, or it was stopped.
#include "api/restore1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "fixture.hpp"
#include "log/message_ids.hpp"

#include <cstring>

namespace thaw::testing {
namespace {

class RestartTest : public RestoredTest {
protected:
    void SetUp() override {
        RestoredTest::SetUp();
        start_daemon();
    }
    // Restores "a" up to this state, kills the daemon there, removes the obstacle, starts it again.
    JobEnd interrupt_in(const std::string& state) {
        const auto id = restore("a");
        if (!id || !wait_job_state(*id, state)) {
            ADD_FAILURE() << "did not come to " << state;
            return {};
        }
        fakes::run_for(*loop_, 50 * kUsecPerMsec);
        restart_daemon();
        return wait_end(*id);
    }
    void expect_interrupted(const JobEnd& end) {
        EXPECT_EQ(end.error_name, "ManagerRestarted") << end.error_message;
        EXPECT_EQ(end.result, "failed");
        expect_clean("a");
        const auto told = journal_->find(message_id::kRestoreInterrupted);
        ASSERT_EQ(told.size(), 1U);
        EXPECT_EQ(told[0].at("THAW_INSTANCE"), "a");
    }
};

TEST_F(RestartTest, RunningVmsAreAdopted) {
    restore_done("a");
    restore_done("a-b");
    events_.clear();
    restart_daemon();
    ASSERT_TRUE(wait([this] { return journal_->find(message_id::kInstanceAdopted).size() == 2; }));
    EXPECT_EQ(instance_state("a"), "running");
    EXPECT_EQ(instance_state("a-b"), "running");
    EXPECT_EQ(count_events("StartUnit") + count_events("StopUnit") + count_events("KillUnit"), 0U);
    // Watched as before.
    systemd_->end_unit(unit_of("a"), "success");
    ASSERT_TRUE(wait([this] { return event("InstanceRemoved a ended") != SIZE_MAX; }));
    expect_clean("a");
    const auto id = restore("a-b");
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).result, "done");
    EXPECT_EQ(wait_end(*stop("a-b")).result, "done");
    expect_clean("a-b");
}

TEST_F(RestartTest, AVmThatEndedMeanwhileIsCleanedUp) {
    restore_done("a");
    kill_daemon();
    ASSERT_TRUE(wait([this] { return !daemon_owned_; }));
    systemd_->end_unit(unit_of("a"), "signal");
    start_daemon();
    ASSERT_TRUE(wait([this] { return event("InstanceRemoved a failed") != SIZE_MAX; }));
    expect_clean("a");
    EXPECT_EQ(journal_->find(message_id::kInstanceLost).size(), 1U);
}

TEST_F(RestartTest, InPreparing) {
    pager_->create_silent = true;
    const auto end = interrupt_in("preparing");
    expect_interrupted(end);
    EXPECT_EQ(count_events("StartUnit") + count_events("StopUnit"), 0U);
}

TEST_F(RestartTest, InStarting) {
    vmm_listens_ = false;
    const auto end = interrupt_in("starting");
    expect_interrupted(end);
    EXPECT_EQ(count_events("StopUnit thaw-firecracker@a.service replace"), 1U);
}

TEST_F(RestartTest, InLoadingBeforeTheVmRuns) {
    vmm_script_["a"] = [](HttpVmm& vmm) { vmm.on("PUT /snapshot/load", {.hang = true}); };
    const auto end = interrupt_in("loading");
    expect_interrupted(end);
    EXPECT_LT(event("StopUnit thaw-firecracker@a.service replace"), event("CloseSession a"));
}

TEST_F(RestartTest, InLoadingWhenTheVmRuns) {
    // Resumed, but the answer never came.
    vmm_script_["a"] = [](HttpVmm& vmm) {
        vmm.on("PATCH /vm", {.hang = true});
        vmm.on("GET /", {.status = 200, .body = R"({"id":"a","state":"Running"})"});
    };
    const auto end = interrupt_in("loading");
    EXPECT_EQ(end.result, "done") << end.error_message;
    EXPECT_EQ(instance_state("a"), "running");
    EXPECT_EQ(count_events("StopUnit"), 0U);
    EXPECT_EQ(count_events("PUT /snapshot/load"), 1U);
    EXPECT_EQ(journal_->find(message_id::kInstanceAdopted).size(), 1U);
    systemd_->end_unit(unit_of("a"), "success");
    ASSERT_TRUE(wait([this] { return event("InstanceRemoved a ended") != SIZE_MAX; }));
    expect_clean("a");
}

TEST_F(RestartTest, InProvingWithoutAPagerThatServes) {
    auto_serve_ = false;
    expect_interrupted(interrupt_in("proving"));
    EXPECT_EQ(count_events("StopUnit thaw-firecracker@a.service replace"), 1U);
}

// The two writes at the end of a restore: a crash between them, in either order.
TEST_F(RestartTest, BetweenTheLastTwoWritesOfARestore) {
    const auto path = fmt::format("{}/a.json", paths::kRestoreRuntime);
    const std::string job =
        R"({"job":{"id":1,"kind":"restore","started":1,"state":"proving","uid":0},)";
    restore_done("a");
    const auto running = read_text(path);
    auto restoring = running;
    const auto at = restoring.find("\"running\"");
    ASSERT_NE(at, std::string::npos) << running;
    restoring.replace(at, std::strlen("\"running\""), "\"restoring\"");
    for (const auto& text : {restoring, job + running.substr(1)}) {
        SCOPED_TRACE(text);
        kill_daemon();
        ASSERT_TRUE(wait([this] { return !daemon_owned_; }));
        ASSERT_TRUE(write_file_atomic(path, text));
        const auto adopted = journal_->find(message_id::kInstanceAdopted).size();
        start_daemon();
        ASSERT_TRUE(wait([&] {
            return journal_->find(message_id::kInstanceAdopted).size() == adopted + 1;
        }));
        EXPECT_EQ(instance_state("a"), "running");
        ASSERT_TRUE(wait([&] { return read_text(path) == running; })) << read_text(path);
    }
    EXPECT_EQ(journal_->find(message_id::kInstanceAdopted).size(), 2U);
    EXPECT_EQ(wait_end(*stop("a")).result, "done");
    expect_clean("a");
}

TEST_F(RestartTest, InUndoing) {
    vmm_script_["a"] = [](HttpVmm& vmm) { vmm.on("PUT /snapshot/load", {.status = 400}); };
    systemd_->plan_stop(unit_of("a"), {.never_finish = true});
    const auto end = interrupt_in("undoing");
    EXPECT_EQ(end.error_name, "ManagerRestarted");
    expect_clean("a");
}

TEST_F(RestartTest, AStopGoesOn) {
    restore_done("a");
    systemd_->plan_stop(unit_of("a"), {.never_finish = true});
    const auto id = stop("a");
    ASSERT_TRUE(id);
    ASSERT_TRUE(wait([this] { return count_events("StopUnit") == 1; }));
    restart_daemon();
    EXPECT_EQ(wait_end(*id).result, "done");
    expect_clean("a");
}

TEST_F(RestartTest, JobNumbersAreNotUsedTwice) {
    const auto first = restore("a");
    ASSERT_TRUE(first);
    EXPECT_EQ(wait_end(*first).result, "done");
    restart_daemon();
    const auto second = restore("b");
    ASSERT_TRUE(second);
    EXPECT_GT(*second, *first);
}

TEST_F(RestartTest, LeftoversWithoutARecordGo) {
    kill_daemon();
    ASSERT_TRUE(wait([this] { return !daemon_owned_; }));
    ASSERT_TRUE(write_file_atomic(paths::restore_ticket("a"), ""));
    ASSERT_TRUE(make_directories("/run/systemd/system/thaw-firecracker@b.service.d"));
    ASSERT_TRUE(write_file_atomic(paths::vm_drop_in("b"), ""));
    ASSERT_TRUE(write_file_atomic("/run/thaw/restore/c.json", "{\"version\":1"));
    pager_->sessions()["d"] = {.name = "d", .unit = unit_of("d"), .state = "listening"};
    start_daemon();
    ASSERT_TRUE(wait([this] { return count_events("InstanceRemoved") == 4; }));
    for (const char* name : {"a", "b", "c", "d"})
        expect_clean(name);
    EXPECT_EQ(count_events("StopUnit"), 0U);
    EXPECT_EQ(journal_->find(message_id::kInstanceLost).size(), 0U);
}

TEST_F(RestartTest, ARunningVmWithADamagedRecordIsNotHurt) {
    restore_done("a");
    kill_daemon();
    ASSERT_TRUE(wait([this] { return !daemon_owned_; }));
    ASSERT_TRUE(write_file_atomic("/run/thaw/restore/a.json", "damaged"));
    start_daemon();
    ASSERT_TRUE(wait([this] { return journal_->find(message_id::kInstanceAdopted).size() == 1; }));
    EXPECT_EQ(instance_state("a"), "running");
    EXPECT_EQ(count_events("StopUnit"), 0U);
    EXPECT_EQ(error_of(restore("a")), "InstanceExists");
    EXPECT_EQ(wait_end(*stop("a")).result, "done");
    expect_clean("a");
}

} // namespace
} // namespace thaw::testing
