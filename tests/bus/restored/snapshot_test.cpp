// SPDX-License-Identifier: MIT
// Images of VMs that run on: the order of things, and the way back from each failure.
#include "api/restore1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "fixture.hpp"
#include "image/store.hpp"
#include "log/message_ids.hpp"

#include <filesystem>

namespace thaw::testing {
namespace {

namespace fs = std::filesystem;

class SnapshotTest : public RestoredTest {
protected:
    void SetUp() override {
        RestoredTest::SetUp();
        ASSERT_TRUE(remove_tree("/var/lib/thaw/images/copy"));
        ASSERT_TRUE(make_directories(paths::kSnapshots));
        // As a VMM does it: two files in the folder it may write to.
        vmm_script_["a"] = [this](HttpVmm& vmm) {
            vmm.on_request([this](const std::string& request, const std::string& body) {
                events_.push_back(fmt::format("{} {}", request, body));
                if (request == "PUT /snapshot/load") pager_->set_state("a", "serving");
                if (request != "PUT /snapshot/create" || !writes_) return;
                ASSERT_TRUE(write_file_atomic(folder() + "/vmstate", "the new state"));
                ASSERT_TRUE(write_file_atomic(folder() + "/memory", std::string(8 << 20, 'n')));
            });
        };
        start_daemon();
        restore_done("a");
        events_.clear();
    }
    static std::string folder() { return std::string(paths::kSnapshots) + "/a"; }
    Result<std::uint32_t> snapshot(const char* image = "copy", const char* name = "a") {
        THAW_TRY(auto reply, call_manager("SnapshotInstance", [&](BusMessage& m) {
                     return m.append("ssa{sv}t", name, image, 0, std::uint64_t{0});
                 }));
        std::uint32_t id = 0;
        const char* path = nullptr;
        THAW_CHECK(reply.read("uo", &id, &path));
        return id;
    }
    JobEnd snapshot_fails(const std::string& error) {
        const auto id = snapshot();
        EXPECT_TRUE(id) << id.error().message();
        const auto end = id ? wait_end(*id) : JobEnd{};
        EXPECT_EQ(end.error_name, error) << end.error_message;
        EXPECT_FALSE(fs::exists("/var/lib/thaw/images/copy"));
        return end;
    }
    void expect_runs_on() {
        EXPECT_EQ(instance_state("a"), "running");
        EXPECT_EQ(vmm("a").state(), "Running");
        EXPECT_TRUE(fs::is_empty(folder()));
    }

    bool writes_ = true;
};

TEST_F(SnapshotTest, LoadsPausesWritesResumesAndSeals) {
    const auto id = snapshot();
    ASSERT_TRUE(id) << id.error().message();
    const auto end = wait_end(*id);
    ASSERT_EQ(end.result, "done") << end.error_name << ": " << end.error_message;
    EXPECT_EQ(pager_->session("a")->changes, std::vector<std::string>{"Complete"});
    EXPECT_LT(event("PATCH /vm {\"state\":\"Paused\"}"), event("PUT /snapshot/create"));
    EXPECT_LT(event("PUT /snapshot/create"), event("PATCH /vm {\"state\":\"Resumed\"}"));
    expect_runs_on();
    const auto made = image::Store(paths::kImages).open("copy");
    ASSERT_TRUE(made) << made.error().message();
    EXPECT_EQ(made->manifest.memory_size, 8U << 20);
    EXPECT_NE(made->manifest.id, image::Store(paths::kImages).open("base")->manifest.id);
    EXPECT_EQ(journal_->find(message_id::kSnapshotDone).size(), 1U);
    EXPECT_NE(job_property(*id, "Outcome").find("stood still"), std::string::npos);
}

TEST_F(SnapshotTest, APausedVmStaysPaused) {
    ASSERT_TRUE(call(
        encode_object_path(restore1::kInstancePrefix, "a"), restore1::kInstanceInterface, "Pause"
    ));
    const auto id = snapshot();
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).result, "done");
    EXPECT_EQ(vmm("a").state(), "Paused");
    EXPECT_EQ(instance_state("a"), "paused");
}

TEST_F(SnapshotTest, EachFailureIsUndone) {
    vmm("a").on("PUT /snapshot/create", {.status = 400, .body = R"({"fault_message":"no room"})"});
    EXPECT_NE(snapshot_fails("SnapshotFailed").error_message.find("no room"), std::string::npos);
    expect_runs_on();
    vmm("a").on("PUT /snapshot/create", {.status = 204});
    writes_ = false; // it says so, and has written nothing
    snapshot_fails("SnapshotFailed");
    expect_runs_on();
    writes_ = true;
    pager_->session("a")->state = "serving";
    pager_->session("a")->change_error = "org.thaw.pager1.Error.NotServing";
    snapshot_fails("PagerFailed");
    expect_runs_on();
    pager_->session("a")->change_error.clear();
    const auto id = snapshot();
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).result, "done");
    EXPECT_EQ(journal_->find(message_id::kSnapshotFailed).size(), 3U);
}

TEST_F(SnapshotTest, BadRequestsAreRefused) {
    EXPECT_EQ(error_of(snapshot("../x")), "InvalidName");
    EXPECT_EQ(error_of(snapshot("copy", "nobody")), "NoSuchInstance");
    const auto id = snapshot("base"); // an image of that name exists
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "ImageExists");
    EXPECT_EQ(event("PATCH /vm"), SIZE_MAX) << "the VM was not touched";
}

TEST_F(SnapshotTest, ACrashOfTheManagerResumesTheVm) {
    vmm("a").on("PUT /snapshot/create", {.delay = 5 * kUsecPerSec});
    const auto id = snapshot();
    ASSERT_TRUE(id);
    ASSERT_TRUE(wait([&] { return event("PUT /snapshot/create") != SIZE_MAX; }));
    restart_daemon();
    const auto end = wait_end(*id);
    EXPECT_EQ(end.error_name, "ManagerRestarted");
    expect_runs_on();
    EXPECT_FALSE(fs::exists("/var/lib/thaw/images/copy"));
}

} // namespace
} // namespace thaw::testing
