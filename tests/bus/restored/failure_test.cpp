// SPDX-License-Identifier: MIT
// Every step fails once: the unit is stopped first, the rest is undone, one error is named.
#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "fixture.hpp"
#include "log/message_ids.hpp"

#include <signal.h>
#include <sys/wait.h>

#include <filesystem>

namespace thaw::testing {
namespace {

class FailureTest : public RestoredTest {
protected:
    void SetUp() override {
        RestoredTest::SetUp();
        configure("[Restore]\nLoadTimeoutSec=400ms\n");
        start_daemon();
    }
    // The failure was told once, with the fields that make it findable.
    void expect_told(const std::string& name, const JobEnd& end) {
        const auto entries = journal_->find(message_id::kRestoreFailed);
        ASSERT_EQ(entries.size(), 1U);
        EXPECT_EQ(entries[0].at("THAW_INSTANCE"), name);
        EXPECT_EQ(entries[0].at("THAW_IMAGE"), "base");
        EXPECT_EQ(entries[0].at("OBJECT_SYSTEMD_UNIT"), unit_of(name));
        EXPECT_FALSE(entries[0].at("THAW_JOB").empty());
        EXPECT_NE(entries[0].at("MESSAGE").find(end.error_message), std::string::npos);
        EXPECT_EQ(count_events("JobRemoved"), 1U);
    }
    void expect_stopped_first() {
        const auto stopped = event("StopUnit thaw-firecracker@a.service replace");
        ASSERT_NE(stopped, SIZE_MAX);
        EXPECT_LT(stopped, event("CloseSession a"));
        EXPECT_LT(event("CloseSession a"), event("JobRemoved a"));
        EXPECT_EQ(count_events("StopUnit"), 1U);
    }
    void script_load(HttpBehaviour behaviour) {
        vmm_script_["a"] = [behaviour](HttpVmm& vmm) { vmm.on("PUT /snapshot/load", behaviour); };
    }
    // The VMM's process ends; systemd notices a little later.
    void die_on(const std::string& request) {
        vmm_script_["a"] = [this, request](HttpVmm& vmm) {
            vmm.on(request, {.close = true});
            vmm.on_request([this, request](const std::string& made, const std::string&) {
                if (made != request) return;
                dying_ = loop_->add_timer(
                    30 * kUsecPerMsec,
                    [this] {
                        systemd_->change_unit(unit_of("a"), [](fakes::FakeUnit& unit) {
                            unit.active_state = "failed";
                            unit.sub_state = "failed";
                            unit.result = "signal";
                            unit.exec_main_code = CLD_KILLED;
                            unit.exec_main_status = SIGSEGV;
                        });
                    },
                    "dying", 0
                );
            });
        };
    }
    std::optional<Result<EventSource>> dying_;
};

TEST_F(FailureTest, NoImage) {
    const auto id = restore("a", "absent");
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "NoSuchImage");
    expect_clean("a");
    EXPECT_EQ(count_events("StartUnit") + count_events("StopUnit"), 0U);
    EXPECT_EQ(count_events("CreateSession") + count_events("CloseSession"), 0U);
}

TEST_F(FailureTest, TruncatedImage) {
    const auto memory = std::string(paths::kImages) + "/other/memory";
    std::filesystem::resize_file(memory, 4096);
    const auto id = restore("a", "other");
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "ImageMismatch");
    expect_clean("a");
    EXPECT_TRUE(remove_tree(std::string(paths::kImages) + "/other"));
}

TEST_F(FailureTest, FileBackendCannotReadHugePages) {
    const auto id = restore("a", "huge", [](BusMessage& m) {
        return m.append("{sv}", "MemoryBackend", "s", "file");
    });
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "BackendUnsupported");
    expect_clean("a");
}

TEST_F(FailureTest, AUnitThatRunsWithoutARecordIsLeftAlone) {
    systemd_->change_unit(unit_of("a"), [](fakes::FakeUnit& unit) {
        unit.active_state = "active";
    });
    const auto id = restore("a");
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "InstanceExists");
    EXPECT_EQ(count_events("StopUnit"), 0U);
    EXPECT_EQ(systemd_->unit(unit_of("a"))->active_state, "active");
}

TEST_F(FailureTest, PagerRefuses) {
    pager_->create_error = pager1::error::kTooManySessions;
    const auto end = restore_fails("a", "PagerFailed");
    EXPECT_NE(end.error_message.find("org.thaw.pager1.Error.TooManySessions"), std::string::npos);
    EXPECT_EQ(count_events("StartUnit") + count_events("StopUnit"), 0U);
    expect_told("a", end);
}

TEST_F(FailureTest, ALostReplyOfThePagerIsAskedForAgain) {
    pager_->lost_replies = 1;
    restore_done("a");
    EXPECT_EQ(count_events("CreateSession"), 2U);
}

TEST_F(FailureTest, ALeftOverSessionGivesWay) {
    pager_->sessions()["a"] = {.name = "a", .unit = "x", .state = "failed"};
    restore_done("a");
    EXPECT_EQ(pager_->session("a")->unit, unit_of("a"));
}

TEST_F(FailureTest, UnitDoesNotStart) {
    systemd_->plan_start(
        unit_of("a"), {.job_result = "failed",
                       .unit_result = "exit-code",
                       .exec_main_code = CLD_EXITED,
                       .exec_main_status = 203}
    );
    const auto end = restore_fails("a", "UnitStartFailed");
    EXPECT_NE(end.error_message.find("exit-code, exit status 203/EXEC"), std::string::npos)
        << end.error_message;
    expect_stopped_first();
    expect_told("a", end);
    // The next attempt clears the failed state, which would keep the old settings loaded.
    systemd_->change_unit(unit_of("a"), [](fakes::FakeUnit& unit) {
        unit.active_state = "failed";
    });
    restore_done("a");
    EXPECT_EQ(systemd_->count_calls("ResetFailedUnit"), 1U);
}

TEST_F(FailureTest, StartIsRefused) {
    systemd_->plan_start(unit_of("a"), {.error_name = "org.freedesktop.systemd1.LoadFailed"});
    const auto end = restore_fails("a", "UnitStartFailed");
    expect_stopped_first();
}

TEST_F(FailureTest, LoadIsRefused) {
    script_load({.status = 400, .body = R"({"fault_message":"Load snapshot error: bad magic"})"});
    const auto end = restore_fails("a", "LoadFailed");
    EXPECT_EQ(end.error_message, "load snapshot: Load snapshot error: bad magic");
    expect_stopped_first();
    expect_told("a", end);
}

TEST_F(FailureTest, LoadHangs) {
    script_load({.hang = true});
    auto_serve_ = false;
    const auto end = restore_fails("a", "LoadTimeout", "timeout");
    expect_stopped_first();
    expect_told("a", end);
}

TEST_F(FailureTest, HugeAndBrokenAnswers) {
    script_load({.status = 400, .body = std::string(1 << 17, 'x')});
    restore_fails("a", "LoadFailed");
    script_load({.raw = "no http at all\r\n\r\n", .close = true});
    restore_fails("a", "LoadFailed");
}

TEST_F(FailureTest, VmmDiesInLoad) {
    auto_serve_ = false;
    die_on("PUT /snapshot/load");
    const auto end = restore_fails("a", "VmmDied");
    EXPECT_NE(end.error_message.find("signal SEGV"), std::string::npos) << end.error_message;
    expect_stopped_first();
    expect_told("a", end);
}

TEST_F(FailureTest, VmmDiesInResume) {
    die_on("PATCH /vm");
    const auto end = restore_fails("a", "VmmDied");
    EXPECT_NE(end.error_message.find("signal SEGV"), std::string::npos) << end.error_message;
    expect_stopped_first();
}

TEST_F(FailureTest, ResumeIsRefused) {
    vmm_script_["a"] = [](HttpVmm& vmm) {
        vmm.on("PATCH /vm", {.status = 400, .body = R"({"fault_message":"not paused"})"});
    };
    const auto end = restore_fails("a", "ResumeFailed");
    EXPECT_NE(end.error_message.find("not paused"), std::string::npos);
    expect_stopped_first();
}

TEST_F(FailureTest, ThePagersReasonIsNamed) {
    auto_serve_ = false;
    vmm_script_["a"] = [this](HttpVmm& vmm) {
        vmm.on("PUT /snapshot/load", {.hang = true});
        vmm.on_request([this](const std::string&, const std::string&) {
            pager_->set_state(
                "a", "failed", std::string(pager1::error::kRegionsInvalid),
                "regions 0 and 1 overlap"
            );
        });
    };
    const auto end = restore_fails("a", "PagerFailed");
    EXPECT_EQ(end.error_message, "org.thaw.pager1.Error.RegionsInvalid: regions 0 and 1 overlap");
    expect_stopped_first();
    expect_told("a", end);
}

TEST_F(FailureTest, TheVmmNeverConnectsToThePager) {
    auto_serve_ = false;
    const auto end = restore_fails("a", "ProofFailed", "timeout");
    EXPECT_NE(end.error_message.find("listening"), std::string::npos) << end.error_message;
    expect_stopped_first();
}

TEST_F(FailureTest, StubbornUnitIsKilled) {
    script_load({.status = 400, .body = "{}"});
    systemd_->plan_stop(unit_of("a"), {.job_result = "failed", .active_state = "deactivating"});
    systemd_->on_call([this](const fakes::FakeCall& made) {
        if (made.member != "KillUnit") return;
        EXPECT_EQ(made.mode, "all");
        EXPECT_EQ(made.signal, SIGKILL);
        systemd_->end_unit(made.unit, "signal");
    });
    restore_fails("a", "LoadFailed");
    EXPECT_EQ(systemd_->count_calls("KillUnit"), 1U);
}

TEST_F(FailureTest, AUnitThatCannotBeStoppedStaysOnTheBooks) {
    script_load({.status = 400, .body = "{}"});
    systemd_->plan_stop(unit_of("a"), {.job_result = "failed", .active_state = "deactivating"});
    systemd_->set_kill_error("org.freedesktop.DBus.Error.Failed");
    const auto id = restore("a");
    ASSERT_TRUE(id);
    const auto end = wait_end(*id);
    EXPECT_EQ(end.error_name, "StopFailed");
    EXPECT_NE(end.error_message.find("LoadFailed"), std::string::npos) << end.error_message;
    EXPECT_EQ(instance_state("a"), "stopping");
    EXPECT_NE(pager_->session("a"), nullptr) << "nothing is taken from under a unit that runs";
    EXPECT_TRUE(exists(paths::vm_drop_in("a")));
    EXPECT_EQ(journal_->find(message_id::kStopFailed).size(), 1U);
    EXPECT_EQ(error_of(restore("a")), "InstanceBusy");
    // Once it ends after all, everything goes.
    systemd_->end_unit(unit_of("a"), "signal");
    ASSERT_TRUE(wait([this] { return event("InstanceRemoved a") != SIZE_MAX; }));
    expect_clean("a");
}

} // namespace
} // namespace thaw::testing
