// SPDX-License-Identifier: MIT
// An image on a disk that hangs: a job waits, the daemon does not.
#include "api/restore1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "fakes/slow_file.hpp"
#include "fixture.hpp"
#include "image/store.hpp"

#include <fcntl.h>
#include <sys/mount.h>

namespace thaw::testing {
namespace {

constexpr const char* kMap = "/var/lib/thaw/images/base/memory.map";
constexpr const char* kFolder = "/run/thaw/slow";

class HungDiskTest : public RestoredTest {
protected:
    void SetUp() override {
        RestoredTest::SetUp();
        auto map = open_file(kMap, O_RDONLY);
        ASSERT_TRUE(map && make_directories(kFolder));
        auto served =
            fakes::SlowFile::serve({.backing = map->get(), .folder = kFolder, .direct = true});
        if (!served) GTEST_SKIP() << served.error().message();
        disk_.emplace(std::move(*served));
        ASSERT_EQ(mount(disk_->path().c_str(), kMap, nullptr, MS_BIND, nullptr), 0);
        start_daemon();
    }
    void TearDown() override {
        if (disk_) {
            disk_->gate().closed = false;
            umount2(kMap, MNT_DETACH);
        }
        RestoredTest::TearDown();
        disk_.reset();
    }
    // Nothing tells the loop when.
    bool is_stuck() {
        for (int attempt = 0; attempt < 1000 && disk_->gate().waiting == 0; ++attempt)
            (void)wait([] { return false; }, 10 * kUsecPerMsec);
        return disk_->gate().waiting > 0;
    }
    // An image of its own, on a disk that works.
    static void make_other_image() {
        ASSERT_TRUE(write_file_atomic("/run/thaw/state", "the state"));
        ASSERT_TRUE(write_file_atomic("/run/thaw/memory", std::string(8 << 20, 'w')));
        const image::Store store(paths::kImages);
        (void)store.remove("well");
        const auto made = store.import(
            "well",
            {.state_path = "/run/thaw/state", .memory_path = "/run/thaw/memory", .manifest = {}},
            [](std::uint64_t, std::uint64_t) { return true; }
        );
        ASSERT_TRUE(made) << made.error().message();
    }

    std::optional<fakes::SlowFile> disk_;
};

TEST_F(HungDiskTest, HoldsUpNobodyElseAndTheJobCanBeCanceled) {
    make_other_image();
    disk_->gate().closed = true;
    const auto stuck = restore("a");
    ASSERT_TRUE(stuck);
    ASSERT_TRUE(is_stuck());
    const auto other = restore("b", "well");
    ASSERT_TRUE(other);
    EXPECT_EQ(wait_end(*other).result, "done");
    EXPECT_EQ(job_property(*stuck, "State"), "preflight");
    ASSERT_TRUE(cancel(*stuck));
    EXPECT_EQ(wait_end(*stuck).error_name, "Canceled");
    expect_clean("a");
    // What comes late is nobody's any more; and once the disk answers, all is well.
    disk_->gate().closed = false;
    restore_done("a");
}

TEST_F(HungDiskTest, RecordingsAreCanceledToo) {
    disk_->gate().closed = true;
    auto reply = call_manager("RecordImage", [](BusMessage& m) {
        return m.append("sa{sv}t", "base", 0, std::uint64_t{0});
    });
    std::uint32_t id = 0;
    const char* path = nullptr;
    ASSERT_TRUE(reply && reply->read("uo", &id, &path));
    ASSERT_TRUE(is_stuck());
    EXPECT_EQ(job_property(id, "State"), "preflight");
    ASSERT_TRUE(cancel(id));
    EXPECT_EQ(wait_end(id).error_name, "Canceled");
    EXPECT_EQ(count_events("StartUnit"), 0U);
}

TEST_F(HungDiskTest, ASnapshotLearnsThatItsVmIsGone) {
    ASSERT_TRUE(make_directories(paths::kSnapshots));
    restore_done("a");
    disk_->gate().closed = true;
    auto reply = call_manager("SnapshotInstance", [](BusMessage& m) {
        return m.append("ssa{sv}t", "a", "copy", 0, std::uint64_t{0});
    });
    std::uint32_t id = 0;
    const char* path = nullptr;
    ASSERT_TRUE(reply && reply->read("uo", &id, &path));
    ASSERT_TRUE(is_stuck());
    systemd_->end_unit(unit_of("a"), "signal");
    EXPECT_EQ(wait_end(id).error_name, "VmmDied");
    ASSERT_TRUE(wait([this] { return event("InstanceRemoved a") != SIZE_MAX; }));
    expect_clean("a");
}

TEST_F(HungDiskTest, TheDaemonEndsAllTheSame) {
    disk_->gate().closed = true;
    ASSERT_TRUE(restore("a"));
    ASSERT_TRUE(is_stuck());
    EXPECT_TRUE(terminate_daemon(5 * kUsecPerSec, [this] { disk_->gate().closed = false; }));
}

} // namespace
} // namespace thaw::testing
