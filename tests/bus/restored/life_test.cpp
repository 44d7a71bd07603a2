// SPDX-License-Identifier: MIT
// After the restore, cancellation, limits, and who may do what.
#include "api/restore1.hpp"
#include "core/names.hpp"
#include "fixture.hpp"
#include "log/message_ids.hpp"

namespace thaw::testing {
namespace {

class LifeTest : public RestoredTest {
protected:
    bool wait_event(const std::string& prefix) {
        return wait([&] { return event(prefix) != SIZE_MAX; });
    }
    // Holds a restore of "a" in this state.
    void hold_in(const std::string& state) {
        if (state == "preparing") pager_->create_silent = true;
        if (state == "starting") systemd_->plan_start(unit_of("a"), {.never_finish = true});
        if (state == "loading")
            vmm_script_["a"] = [](HttpVmm& vmm) { vmm.on("PUT /snapshot/load", {.hang = true}); };
        if (state == "proving") auto_serve_ = false;
    }
};

TEST_F(LifeTest, TheEndOfAUnitEndsTheInstance) {
    start_daemon();
    restore_done("a");
    systemd_->end_unit(unit_of("a"), "oom-kill");
    ASSERT_TRUE(wait_event("InstanceRemoved a failed"));
    expect_clean("a");
    const auto lost = journal_->find(message_id::kInstanceLost);
    ASSERT_EQ(lost.size(), 1U);
    EXPECT_EQ(lost[0].at("OBJECT_SYSTEMD_UNIT"), unit_of("a"));
    EXPECT_NE(lost[0].at("MESSAGE").find("oom-kill"), std::string::npos);
    EXPECT_EQ(count_events("StopUnit"), 0U);
    // A guest that powers off is no failure.
    restore_done("b");
    systemd_->end_unit(unit_of("b"), "success");
    ASSERT_TRUE(wait_event("InstanceRemoved b ended"));
    expect_clean("b");
}

TEST_F(LifeTest, AVmWhoseMemoryIsLostIsStoppedAndToldWhy) {
    start_daemon();
    restore_done("a");
    restore_done("b");
    pager_->set_state("a", "failed", "org.thaw.pager1.Error.SourceFailed", "page 7 is unreadable");
    ASSERT_TRUE(wait_event("InstanceRemoved a stopped"));
    expect_clean("a");
    EXPECT_LT(event("StopUnit thaw-firecracker@a.service replace"), event("CloseSession a"));
    for (const auto id : {message_id::kLossFound, message_id::kLossStopped}) {
        const auto told = journal_->find(id);
        ASSERT_EQ(told.size(), 1U);
        EXPECT_NE(told[0].at("MESSAGE").find("page 7 is unreadable"), std::string::npos);
        EXPECT_EQ(told[0].at("THAW_ERROR"), "org.thaw.restore1.Error.PagerFailed");
        EXPECT_EQ(told[0].at("OBJECT_SYSTEMD_UNIT"), unit_of("a"));
    }
    EXPECT_TRUE(journal_->find(message_id::kStopDone).empty()) << "nobody asked for it";
    // The job did what it was for, and says why it had to.
    ASSERT_TRUE(wait_event("JobRemoved a done PagerFailed"));
    EXPECT_NE(ends_.rbegin()->second.error_message.find("its memory is lost"), std::string::npos);
    pager_->set_stop_pending("b");
    ASSERT_TRUE(wait_event("InstanceRemoved b stopped"));
    expect_clean("b");
}

TEST_F(LifeTest, ABadLineOfTheConfigurationIsFoundByItsPlace) {
    configure("[Restore]\nPrefetch=perhaps\n");
    start_daemon();
    const auto told = journal_->find(message_id::kConfigWarning);
    ASSERT_EQ(told.size(), 1U);
    EXPECT_EQ(told[0].at("CONFIG_FILE"), "/run/thaw/restored.conf.d/test.conf");
    EXPECT_EQ(told[0].at("CONFIG_LINE"), "2");
}

// What is left of an ended job for those who ask late holds no file of the image.
TEST_F(LifeTest, AnEndedRestoreHoldsNoFileOfItsImage) {
    start_daemon();
    hold_in("loading");
    const auto id = restore("a");
    ASSERT_TRUE(id);
    ASSERT_TRUE(wait_job_state(*id, "loading"));
    EXPECT_FALSE(open_below(paths::kImages).empty()) << "the test looks at nothing";
    EXPECT_EQ(error_of(cancel(*id)), "");
    EXPECT_EQ(wait_end(*id).result, "canceled");
    EXPECT_EQ(open_below(paths::kImages), std::vector<std::string>{});
    vmm_script_.clear();
    restore_done("b");
    EXPECT_EQ(open_below(paths::kImages), std::vector<std::string>{});
}

// The broker keeps its name and says nothing new: the failure is read by asking again.
TEST_F(LifeTest, ASessionThatCouldNotBeReadIsReadAgain) {
    start_daemon();
    restore_done("a");
    pager_->set_state("a", "failed", "org.thaw.pager1.Error.SourceFailed", "page 7 is unreadable");
    pager_->session("a")->unreadable = 1;
    ASSERT_TRUE(wait_event("InstanceRemoved a stopped"));
    expect_clean("a");
}

TEST_F(LifeTest, ASignalOfAStrangerDoesNothing) {
    start_daemon();
    restore_done("a");
    // Same path and interface, another sender: the properties are read again, and are fine.
    (void)bus_->emit_signal(
        encode_object_path("/org/thaw/pager1/session", "a"), "org.freedesktop.DBus.Properties",
        "PropertiesChanged", "sa{sv}as", "org.thaw.pager1.Session", 1, "State", "s", "failed", 0
    );
    fakes::run_for(*loop_, 300 * kUsecPerMsec);
    EXPECT_EQ(instance_state("a"), "running");
}

TEST_F(LifeTest, CancelAtEveryStage) {
    start_daemon();
    for (const std::string state : {"preparing", "starting", "loading", "proving"}) {
        SCOPED_TRACE(state);
        events_.clear();
        hold_in(state);
        const auto id = restore("a");
        ASSERT_TRUE(id) << id.error().message();
        ASSERT_TRUE(wait_job_state(*id, state));
        EXPECT_EQ(error_of(cancel(*id)), "");
        const auto end = wait_end(*id);
        EXPECT_EQ(end.result, "canceled");
        EXPECT_EQ(end.error_name, "Canceled");
        EXPECT_EQ(error_of(cancel(*id)), "JobNotCancelable");
        expect_clean("a");
        EXPECT_EQ(count_events("StopUnit"), state == "preparing" ? 0U : 1U);
        pager_->create_silent = false;
        auto_serve_ = true;
        vmm_script_.clear();
    }
    EXPECT_EQ(journal_->find(message_id::kRestoreCanceled).size(), 4U);
    EXPECT_EQ(journal_->find(message_id::kRestoreFailed).size(), 0U);
    restore_done("a");
    EXPECT_EQ(ended_jobs("restore", "canceled"), 4U);
    EXPECT_EQ(ended_jobs("restore", "done"), 1U);
    EXPECT_EQ(ended_jobs("restore", "failed"), 0U);
}

TEST_F(LifeTest, CancelWhileQueuedAndTheLimits) {
    configure("[Limits]\nMaxJobs=3\nMaxParallel=1\n");
    start_daemon();
    hold_in("loading");
    const auto first = restore("a");
    const auto second = restore("b");
    const auto third = restore("c");
    ASSERT_TRUE(first && second && third);
    EXPECT_EQ(error_of(restore("d")), "TooManyJobs");
    ASSERT_TRUE(wait_job_state(*first, "loading"));
    EXPECT_EQ(job_property(*second, "State"), "queued");
    EXPECT_EQ(error_of(cancel(*second)), "");
    EXPECT_EQ(wait_end(*second).result, "canceled");
    expect_clean("b");
    EXPECT_EQ(job_property(*third, "State"), "queued");
    EXPECT_EQ(error_of(cancel(*first)), "");
    EXPECT_EQ(wait_end(*first).result, "canceled");
    EXPECT_EQ(wait_end(*third).result, "done");
    EXPECT_EQ(count_events("StartUnit thaw-firecracker@b"), 0U);
    restore_done("d");
}

TEST_F(LifeTest, ListsAndObjects) {
    start_daemon();
    hold_in("loading");
    restore_done("b");
    const auto id = restore("a");
    ASSERT_TRUE(wait_job_state(*id, "loading"));
    auto jobs = call_manager("ListJobs");
    ASSERT_TRUE(jobs);
    std::uint32_t number = 0;
    const char *name = nullptr, *kind = nullptr, *state = nullptr, *path = nullptr;
    double progress = 0;
    ASSERT_TRUE(jobs->enter_container('a', "(usssdo)"));
    ASSERT_TRUE(jobs->read("(usssdo)", &number, &name, &kind, &state, &progress, &path));
    EXPECT_EQ(number, *id);
    EXPECT_EQ(std::string(kind) + " " + state, "restore loading");
    EXPECT_GT(progress, 0);
    EXPECT_LT(progress, 1);
    const auto object =
        call_manager("GetInstance", [](BusMessage& m) { return m.append("s", "b"); });
    EXPECT_TRUE(object);
    EXPECT_EQ(
        error_of(call_manager("GetInstance", [](BusMessage& m) { return m.append("s", "x"); })),
        "NoSuchInstance"
    );
    EXPECT_TRUE(call(restore1::kPath, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"));
}

TEST_F(LifeTest, AStrangerMayLookButNotChange) {
    start_daemon();
    restore_done("a");
    const std::string manager = "org.thaw.restore1.Manager ";
    EXPECT_NE(as_nobody(manager + "ListInstances").find("status 0"), std::string::npos);
    for (const char* words :
         {"StopInstance st a 0", "RestoreInstance ssa{sv}t b base 0 0", "SetPolicy sv Prefetch b 0"
         }) {
        const auto output = as_nobody(manager + words);
        EXPECT_NE(output.find("Access denied"), std::string::npos) << words << ": " << output;
    }
    EXPECT_EQ(instance_state("a"), "running");
    EXPECT_EQ(instance_state("b"), "");
    const auto denied = journal_->find(message_id::kAccessDenied);
    ASSERT_EQ(denied.size(), 3U);
    EXPECT_EQ(denied[0].at("THAW_CALLER_UID"), "65534");
}

} // namespace
} // namespace thaw::testing
