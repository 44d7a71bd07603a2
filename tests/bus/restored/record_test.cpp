// SPDX-License-Identifier: MIT
// Recordings: a VM that is restored only to be watched, what it leaves, and what it must not leave.
#include "api/restore1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "fixture.hpp"
#include "image/access_log.hpp"
#include "image/store.hpp"
#include "image/working_set.hpp"
#include "log/message_ids.hpp"

#include <fcntl.h>

#include <filesystem>

namespace thaw::testing {
namespace {

namespace fs = std::filesystem;
constexpr auto kImage = "/var/lib/thaw/images/base";

class RecordTest : public RestoredTest {
protected:
    void SetUp() override {
        RestoredTest::SetUp();
        fs::remove(file(image::kAccessLogFile));
        fs::remove(file(image::kWorkingSetFile));
        // A burst of a second, then quiet.
        pager_->on_session = [this](FakeSession& session) {
            const auto began = now_monotonic();
            session.faults = [this, began] {
                return faults_ ? faults_(now_monotonic() - began) : 0;
            };
            session.touches = touches_.size() > made_ ? touches_[made_] : touches_.back();
            ++made_;
            seen_ = session;
        };
        faults_ = [](Microseconds age) { return std::min<Microseconds>(age, 400000) / 100; };
        start_daemon();
    }
    static std::string file(const char* name) { return fmt::format("{}/{}", kImage, name); }
    Result<std::uint32_t> record(const Options& options = {}, const char* image = "base") {
        auto reply = call_manager("RecordImage", [&](BusMessage& m) -> Result<> {
            THAW_CHECK(m.append("s", image));
            THAW_CHECK(m.open_container('a', "{sv}"));
            if (options) THAW_CHECK(options(m));
            THAW_CHECK(m.close_container());
            return m.append("t", std::uint64_t{0});
        });
        if (!reply) return std::unexpected(std::move(reply).error());
        std::uint32_t id = 0;
        const char* path = nullptr;
        THAW_CHECK(reply->read("uo", &id, &path));
        return id;
    }
    static Options limit(Microseconds time) {
        return [time](BusMessage& m) { return m.append("{sv}", "RecordMaxUSec", "t", time); };
    }
    Result<image::AccessLog> log() {
        THAW_TRY(const auto opened, image::Store(paths::kImages).open("base"));
        THAW_TRY(const auto fd, open_file(file(image::kAccessLogFile), O_RDONLY));
        return image::load_access_log(
            fd.get(), opened.manifest.id, opened.manifest.memory_size / 4096
        );
    }
    void expect_nothing_written() {
        EXPECT_FALSE(fs::exists(file(image::kAccessLogFile)));
        EXPECT_FALSE(fs::exists(file(image::kWorkingSetFile)));
        for (const auto& entry : fs::directory_iterator(kImage))
            EXPECT_FALSE(entry.path().filename().string().starts_with("."))
                << entry.path().string();
    }
    void expect_vm_gone(std::uint32_t job) { expect_clean(fmt::format("record-{}", job)); }

    std::function<std::uint64_t(Microseconds age)> faults_;
    std::vector<std::vector<std::uint32_t>> touches_{{7, 3, 5}};
    std::size_t made_ = 0;
    FakeSession seen_;
};

TEST_F(RecordTest, SettlesWritesBothFilesAndLeavesNothing) {
    const auto begin = now_monotonic();
    const auto id = record();
    ASSERT_TRUE(id) << id.error().message();
    const auto end = wait_end(*id);
    ASSERT_EQ(end.result, "done") << end.error_name << ": " << end.error_message;
    EXPECT_GE(now_monotonic() - begin, 500 * kUsecPerMsec);
    EXPECT_TRUE(seen_.recording);
    EXPECT_FALSE(seen_.prefetch);
    EXPECT_EQ(count_events("StartUnit"), 1U);
    EXPECT_NE(event(fmt::format("InstanceRemoved record-{} stopped", *id)), SIZE_MAX);
    expect_vm_gone(*id);

    const auto written = log();
    ASSERT_TRUE(written) << written.error().message();
    EXPECT_EQ(written->pages, (std::vector<std::uint32_t>{7, 3, 5}));
    EXPECT_TRUE(written->settled);
    EXPECT_GT(fs::file_size(file(image::kWorkingSetFile)), 3 * 4096U);
    EXPECT_NE(job_property(*id, "Outcome").find("3 pages"), std::string::npos);
    const auto done = journal_->find(message_id::kRecordDone);
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(done[0].at("THAW_IMAGE"), "base");

    // From now on a restore takes it along, and `auto` prefers the pager.
    made_ = 0;
    const auto restored = restore("a", "base", [](BusMessage& m) {
        return m.append("{sv}", "PrefetchRate", "t", std::uint64_t{5000});
    });
    ASSERT_TRUE(restored);
    EXPECT_EQ(wait_end(*restored).result, "done");
    EXPECT_EQ(job_property(*restored, "Backend"), "uffd");
    EXPECT_TRUE(seen_.has_working_set);
    EXPECT_TRUE(seen_.prefetch);
    EXPECT_FALSE(seen_.recording);
    EXPECT_EQ(seen_.prefetch_rate, 5000U);
}

TEST_F(RecordTest, IsMarkedByTypeAndRefusedToOthers) {
    faults_ = [](Microseconds age) { return age / 100; }; // never rests
    const auto id = record(limit(3 * kUsecPerSec));
    ASSERT_TRUE(id);
    const auto name = fmt::format("record-{}", *id);
    ASSERT_TRUE(wait([&] { return instance_state(name) == "running"; }));
    EXPECT_EQ(
        text_property(
            encode_object_path(restore1::kInstancePrefix, name), restore1::kInstanceInterface,
            "Type"
        ),
        "recording"
    );
    EXPECT_EQ(error_of(restore(name)), "InstanceBusy");
    EXPECT_EQ(error_of(record()), "ImageBusy");
    ASSERT_TRUE(cancel(*id));
    const auto end = wait_end(*id);
    EXPECT_EQ(end.result, "canceled");
    expect_vm_gone(*id);
    expect_nothing_written();
}

TEST_F(RecordTest, OneThatNeverRestsIsKeptAndMarked) {
    faults_ = [](Microseconds age) { return age / 100; };
    const auto id = record(limit(700 * kUsecPerMsec));
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).result, "done");
    ASSERT_TRUE(log());
    EXPECT_FALSE(log()->settled);
}

TEST_F(RecordTest, AnEmptyOneWritesNothing) {
    faults_ = [](Microseconds) { return std::uint64_t{0}; };
    auto id = record(limit(600 * kUsecPerMsec));
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "NothingRecorded");
    expect_nothing_written();
    expect_vm_gone(*id);
    // Faults, but of no page.
    faults_ = [](Microseconds age) { return std::min<Microseconds>(age, 400000) / 100; };
    touches_ = {{}};
    id = record();
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "NothingRecorded");
    expect_nothing_written();
    EXPECT_EQ(journal_->find(message_id::kRecordFailed).size(), 2U);
}

TEST_F(RecordTest, SeveralRunsKeepWhatTheyHaveInCommon) {
    touches_ = {{9, 1, 2, 3}, {3, 2, 8, 9}};
    const auto id = record([](BusMessage& m) { return m.append("{sv}", "Runs", "u", 2U); });
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).result, "done");
    EXPECT_EQ(count_events("StartUnit"), 2U);
    EXPECT_EQ(count_events("StopUnit"), 2U);
    auto written = log();
    ASSERT_TRUE(written);
    EXPECT_EQ(written->recordings, 2U);
    std::ranges::sort(written->pages);
    EXPECT_EQ(written->pages, (std::vector<std::uint32_t>{2, 3, 9}));
}

TEST_F(RecordTest, ARestoreThatFailsIsTheJobsError) {
    vmm_script_["record-1"] = [](HttpVmm& vmm) {
        vmm.on(
            "PUT /snapshot/load", {.status = 400, .body = R"({"fault_message":"no such drive"})"}
        );
    };
    const auto id = record();
    ASSERT_TRUE(id);
    ASSERT_EQ(*id, 1U);
    const auto end = wait_end(*id);
    EXPECT_EQ(end.error_name, "LoadFailed");
    EXPECT_NE(end.error_message.find("no such drive"), std::string::npos);
    expect_nothing_written();
    expect_vm_gone(*id);
}

TEST_F(RecordTest, AVmThatDiesWhileItIsWatched) {
    faults_ = [](Microseconds age) { return age / 100; };
    const auto id = record(limit(5 * kUsecPerSec));
    ASSERT_TRUE(id);
    const auto name = fmt::format("record-{}", *id);
    ASSERT_TRUE(wait([&] { return job_property(*id, "Stage") == "settle"; }));
    systemd_->end_unit(unit_of(name), "exit-code");
    EXPECT_EQ(wait_end(*id).error_name, "VmmDied");
    expect_nothing_written();
    expect_vm_gone(*id);
}

TEST_F(RecordTest, ACrashOfTheManagerLeavesNothing) {
    faults_ = [](Microseconds age) { return age / 100; };
    for (const char* stage : {"restore", "settle"}) {
        if (stage == std::string("restore"))
            vmm_script_[fmt::format("record-{}", 1)] = [](HttpVmm& vmm) {
                vmm.on("PUT /snapshot/load", {.delay = 3 * kUsecPerSec});
            };
        const auto id = record(limit(20 * kUsecPerSec));
        ASSERT_TRUE(id);
        const auto name = fmt::format("record-{}", *id);
        ASSERT_TRUE(wait([&] { return job_property(*id, "Stage") == stage; })) << stage;
        ASSERT_TRUE(wait([&] { return vmms_.contains(name); }));
        restart_daemon();
        ASSERT_TRUE(wait([&] {
            return event(fmt::format("InstanceRemoved {} stopped", name)) != SIZE_MAX;
        })) << stage;
        expect_clean(name);
        expect_nothing_written();
    }
}

TEST_F(RecordTest, TheBreakerAndBadRequests) {
    ASSERT_TRUE(call_manager("SetPolicy", [](BusMessage& m) {
        return m.append("sv", "Recording", "b", 0);
    }));
    EXPECT_EQ(error_of(record()), "RecordingDisabled");
    ASSERT_TRUE(call_manager("SetPolicy", [](BusMessage& m) {
        return m.append("sv", "Recording", "b", 1);
    }));
    EXPECT_EQ(error_of(record({}, "../x")), "InvalidName");
    const auto with = [this](const char* key, const char* type, auto value) {
        return error_of(record([=](BusMessage& m) { return m.append("{sv}", key, type, value); }));
    };
    EXPECT_EQ(with("Runs", "u", 0U), "InvalidArgs");
    EXPECT_EQ(with("Runs", "u", 17U), "InvalidArgs");
    EXPECT_EQ(with("RecordMaxUSec", "t", std::uint64_t{0}), "InvalidArgs");
    EXPECT_EQ(with("Nonsense", "b", 1), "InvalidArgs");
    auto id = record({}, "none");
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "NoSuchImage");
    id = record({}, "odd"); // it has a writable drive
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).error_name, "DriveWritable");
    EXPECT_EQ(count_events("StartUnit"), 0U);
}

} // namespace
} // namespace thaw::testing
