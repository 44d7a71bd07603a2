// SPDX-License-Identifier: MIT
// Restores that work, and requests that are refused before anything begins.
#include "api/restore1.hpp"
#include "core/names.hpp"
#include "fixture.hpp"
#include "log/message_ids.hpp"

namespace thaw::testing {
namespace {

class RestoreTest : public RestoredTest {
protected:
    void SetUp() override {
        RestoredTest::SetUp();
        start_daemon();
    }
    static Options backend(const char* word) {
        return [word](BusMessage& m) { return m.append("{sv}", "MemoryBackend", "s", word); };
    }
};

TEST_F(RestoreTest, HappyPathInOrder) {
    std::string drop_in, ticket_during_start;
    systemd_->on_call([&](const fakes::FakeCall& made) {
        if (made.member != "StartUnit") return;
        events_.push_back(fmt::format("StartUnit {} {}", made.unit, made.mode));
        drop_in = read_text(paths::vm_drop_in("a-b"));
        ticket_during_start = read_text(paths::restore_ticket("a-b"));
    });
    const auto id = restore("a-b");
    ASSERT_TRUE(id) << id.error().message();
    const auto end = wait_end(*id);
    ASSERT_EQ(end.result, "done") << end.error_name << ": " << end.error_message;
    EXPECT_EQ(end.error_name, "");

    EXPECT_LT(event("InstanceNew a-b"), event("reply a-b"));
    EXPECT_LT(event("JobNew a-b"), event("reply a-b"));
    EXPECT_LT(event("reply a-b"), event("JobRemoved a-b done"));
    EXPECT_LT(event("CreateSession a-b"), event("StartUnit thaw-firecracker@a\\x2db.service fail"));
    EXPECT_LT(event("StartUnit"), event("PUT /snapshot/load"));
    EXPECT_LT(event("PUT /snapshot/load"), event("PATCH /vm"));
    EXPECT_LT(event("PATCH /vm"), event("JobRemoved"));

    EXPECT_NE(drop_in.find("BindReadOnlyPaths=\"/var/lib/thaw/images/base\"\n"), std::string::npos);
    EXPECT_NE(ticket_during_start, "");
    EXPECT_FALSE(exists(paths::restore_ticket("a-b"))) << "a bare start could use it";
    EXPECT_TRUE(exists(paths::vm_drop_in("a-b")));

    const auto& session = *pager_->session("a-b");
    EXPECT_TRUE(session.has_memory && session.has_map);
    EXPECT_EQ(session.unit, unit_of("a-b"));
    EXPECT_EQ(session.memory_size, 8U << 20);
    EXPECT_EQ(session.page_size, 4096U);
    EXPECT_TRUE(session.prefetch);
    EXPECT_EQ(instance_state("a-b"), "running");
    EXPECT_EQ(vmm("a-b").state(), "Running");
    EXPECT_EQ(job_property(*id, "Backend"), "uffd");
    EXPECT_NE(job_property(*id, "BackendReason"), "");
    EXPECT_EQ(job_property(*id, "State"), "done");
    EXPECT_EQ(journal_->find(message_id::kRestoreStarted).size(), 1U);
    const auto done = journal_->find(message_id::kRestoreDone);
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(done[0].at("THAW_INSTANCE"), "a-b");
    EXPECT_EQ(done[0].at("OBJECT_SYSTEMD_UNIT"), unit_of("a-b"));
}

TEST_F(RestoreTest, ARepeatedRequestReturnsTheLiveVm) {
    restore_done("a");
    const auto again = restore("a");
    ASSERT_TRUE(again);
    EXPECT_EQ(wait_end(*again).result, "done");
    EXPECT_EQ(count_events("StartUnit"), 1U);
    EXPECT_EQ(count_events("PUT /snapshot/load"), 1U);
    EXPECT_EQ(vmm("a").state(), "Running");
    EXPECT_EQ(error_of(restore("a", "other")), "InstanceExists");
}

TEST_F(RestoreTest, OneJobPerVm) {
    vmm_script_["a"] = [](HttpVmm& vmm) {
        vmm.on("PUT /snapshot/load", {.delay = 200 * kUsecPerMsec});
    };
    const auto first = restore("a");
    ASSERT_TRUE(first);
    EXPECT_EQ(error_of(restore("a")), "InstanceBusy");
    EXPECT_EQ(error_of(stop("a")), "InstanceBusy");
    EXPECT_EQ(wait_end(*first).result, "done");
}

TEST_F(RestoreTest, StopTakesEverythingAway) {
    restore_done("a");
    restore_done("b");
    const auto id = stop("a");
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).result, "done");
    EXPECT_LT(event("StopUnit thaw-firecracker@a.service replace"), event("CloseSession a"));
    EXPECT_NE(event("InstanceRemoved a stopped"), SIZE_MAX);
    expect_clean("a");
    EXPECT_EQ(instance_state("b"), "running");
    EXPECT_EQ(journal_->find(message_id::kStopDone).size(), 1U);
    EXPECT_EQ(error_of(stop("a")), "NoSuchInstance");
    restore_done("a");
}

TEST_F(RestoreTest, PauseAndResume) {
    restore_done("a");
    const auto path = encode_object_path(restore1::kInstancePrefix, "a");
    ASSERT_TRUE(call(path, restore1::kInstanceInterface, "Pause"));
    EXPECT_EQ(instance_state("a"), "paused");
    EXPECT_EQ(vmm("a").state(), "Paused");
    ASSERT_TRUE(call(path, restore1::kInstanceInterface, "Resume"));
    EXPECT_EQ(instance_state("a"), "running");
    vmm("a").on("PATCH /vm", {.status = 400, .body = R"({"fault_message":"cannot"})"});
    const auto refused = call(path, restore1::kInstanceInterface, "Pause");
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message().find("cannot"), std::string::npos);
    EXPECT_EQ(instance_state("a"), "running");
}

TEST_F(RestoreTest, FileBackendNeedsNoPager) {
    pager_->create_error = "org.thaw.pager1.Error.SafeMode";
    restore_done("a", backend("file"));
    EXPECT_EQ(count_events("CreateSession"), 0U);
    EXPECT_NE(vmm("a").last_body().find("Resumed"), std::string::npos);
    EXPECT_EQ(wait_end(*stop("a")).result, "done");
    EXPECT_EQ(count_events("CloseSession"), 0U);
    expect_clean("a");
}

TEST_F(RestoreTest, AutoSaysWhatItChoseAndWhy) {
    const auto id = restore("a", "base", backend("auto"));
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).result, "done");
    EXPECT_EQ(job_property(*id, "Backend"), "file"); // freshly imported: in the page cache
    const auto second = restore("b", "base", backend("auto"));
    ASSERT_TRUE(second);
    EXPECT_EQ(wait_end(*second).result, "done");
    EXPECT_EQ(job_property(*second, "Backend"), "uffd");
    EXPECT_NE(job_property(*second, "BackendReason").find("another VM"), std::string::npos);
}

TEST_F(RestoreTest, BreakersBindAndSurvive) {
    const auto set = [this](const char* key, const char* type, auto value) {
        return call_manager("SetPolicy", [=](BusMessage& m) {
            return m.append("sv", key, type, value);
        });
    };
    EXPECT_EQ(error_of(set("MemoryBackend", "s", "magic")), "InvalidArgs");
    EXPECT_EQ(error_of(set("Nonsense", "b", 1)), "InvalidArgs");
    EXPECT_EQ(error_of(set("Prefetch", "s", "no")), "InvalidArgs");
    ASSERT_TRUE(set("MemoryBackend", "s", "uffd"));
    ASSERT_TRUE(set("Prefetch", "b", 0));
    EXPECT_TRUE(journal_->find(message_id::kPolicyKept).empty());
    restart_daemon();
    const auto kept = journal_->find(message_id::kPolicyKept);
    ASSERT_EQ(kept.size(), 1U);
    EXPECT_NE(
        kept[0].at("MESSAGE").find("MemoryBackend=uffd (configured: auto), "
                                   "Prefetch=no (configured: yes)"),
        std::string::npos
    ) << kept[0].at("MESSAGE");
    EXPECT_EQ(text_property(restore1::kPath, restore1::kManagerInterface, "MemoryBackend"), "uffd");
    restore_done("a", backend("auto"));
    EXPECT_FALSE(pager_->session("a")->prefetch);
    const auto id = restore("b", "base", backend("file"));
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "BackendUnsupported");
    EXPECT_EQ(journal_->find(message_id::kPolicyChanged).size(), 2U);
}

TEST_F(RestoreTest, OptionsReachTheirPlaces) {
    const auto id = restore("a", "base", [](BusMessage& m) -> Result<> {
        THAW_CHECK(m.append("{sv}", "MemoryBackend", "s", "uffd"));
        THAW_CHECK(m.append("{sv}", "Prefetch", "b", 0));
        THAW_CHECK(m.append("{sv}", "OnPagerLoss", "s", "stop"));
        THAW_CHECK(m.append("{sv}", "Shares", "a(ssa{sv})", 0));
        return m.append("{sv}", "NetworkOverrides", "a(ss)", 1, "eth0", "tap3");
    });
    ASSERT_TRUE(id) << id.error().message();
    std::string load;
    ASSERT_TRUE(wait([&] {
        if (vmms_.contains("a") && load.empty() && vmm("a").requests().size() == 1)
            load = vmm("a").last_body();
        return ends_.contains(*id);
    }));
    EXPECT_NE(load.find(R"({"host_dev_name":"tap3","iface_id":"eth0"})"), std::string::npos);
    EXPECT_NE(load.find("/run/thaw/pager/vm/a/uffd.sock"), std::string::npos);
    EXPECT_NE(load.find("\"snapshot_path\":\"/var/lib/thaw/images/base/"), std::string::npos);
    EXPECT_FALSE(pager_->session("a")->prefetch);
    EXPECT_EQ(pager_->session("a")->on_pager_loss, "stop");
}

TEST_F(RestoreTest, BadRequestsAreRefusedAtOnce) {
    const auto with = [this](const Options& options) {
        return error_of(restore("a", "base", options));
    };
    EXPECT_EQ(error_of(restore("-x")), "InvalidName");
    EXPECT_EQ(error_of(restore("a", "../base")), "InvalidName");
    EXPECT_EQ(
        with([](BusMessage& m) { return m.append("{sv}", "Nonsense", "b", 1); }), "InvalidArgs"
    );
    EXPECT_EQ(
        with([](BusMessage& m) { return m.append("{sv}", "Prefetch", "s", "yes"); }), "InvalidArgs"
    );
    EXPECT_EQ(with(backend("magic")), "InvalidArgs");
    EXPECT_EQ(
        with([](BusMessage& m) { return m.append("{sv}", "OnPagerLoss", "s", "x"); }), "InvalidArgs"
    );
    EXPECT_EQ(
        with([](BusMessage& m) { return m.append("{sv}", "LoadTimeoutUSec", "t", 0ULL); }),
        "InvalidArgs"
    );
    EXPECT_EQ(
        with([](BusMessage& m) {
            return m.append("{sv}", "Shares", "a(ssa{sv})", 1, "tag", "/srv", 0);
        }),
        "SharesUnsupported"
    );
    const auto flags = call_manager("RestoreInstance", [](BusMessage& m) {
        return m.append("ssa{sv}t", "a", "base", 0, 1ULL);
    });
    EXPECT_EQ(error_of(flags), "InvalidArgs");
    EXPECT_EQ(error_of(cancel(4711)), "NoSuchJob");
    EXPECT_EQ(count_events("JobNew"), 0U);
}

} // namespace
} // namespace thaw::testing
