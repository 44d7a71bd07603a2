// SPDX-License-Identifier: MIT
// Each file system, filled to the last byte and brought back by its reserve.
#include "matrix_fixture.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::test {
namespace {

using reserve::kDefaultBytes;

TEST_F(DiskMatrix, Ext4FilledByRoot) {
    const Disk disk({.type = "ext4"});
    arm(disk.volume());
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
    // Root has eaten the root pool, which is refilled first: users get less than was released.
    const auto space = disk.space();
    EXPECT_LT(space.available, kDefaultBytes - 8 * kMiB);
    EXPECT_GT(space.available, 0u);
    EXPECT_EQ(create_with_byte(disk / "user", {kNobody}), 0);
}

// Sized for root writers, a reserve leaves users what it would without a root pool.
TEST_F(DiskMatrix, Ext4FilledByRootWithThePoolInThePlan) {
    const Disk disk({.type = "ext4"});
    const auto plan =
        reserve::plan_reserve({.automatic = true, .root_writers = true}, disk.space(), "ext4");
    ASSERT_GT(plan.bytes, kDefaultBytes + 8 * kMiB);
    arm(disk.volume(), plan);
    ASSERT_EQ(fill(disk / "fill"), ENOSPC);
    const auto report = release_and_compare(disk);
    EXPECT_NEAR(double(report.gained), double(plan.bytes), kMiB);
    // The pool it was sized for has clusters in it that nobody may use: a little more than enough.
    EXPECT_GE(report.gained_available, kDefaultBytes);
    EXPECT_LT(report.gained_available, kDefaultBytes + 8 * kMiB);
}

TEST_F(DiskMatrix, Ext4FilledByUser) {
    const Disk disk({.type = "ext4"});
    arm(disk.volume());
    ASSERT_NO_FATAL_FAILURE(drill(disk, {.writer = {kNobody}}));
    EXPECT_NEAR(double(disk.space().available), double(kDefaultBytes), 2.0 * kMiB);
}

TEST_F(DiskMatrix, Ext4WithoutRootPool) {
    const Disk disk({.type = "ext4", .mkfs = {"-m", "0"}});
    arm(disk.volume());
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
    EXPECT_NEAR(double(disk.space().available), double(kDefaultBytes), 2.0 * kMiB);
}

TEST_F(DiskMatrix, Ext4WithoutInodes) {
    const Disk disk({.type = "ext4", .mkfs = {"-m", "0", "-N", "256"}});
    arm(disk.volume());
    mkdir((disk / "many").c_str(), 0755);
    ASSERT_EQ(fill_inodes(disk / "many"), ENOSPC);
    ASSERT_EQ(fill(inode_name(disk / "many", 0)), ENOSPC);
    ASSERT_EQ(create_with_byte(disk / "new"), ENOSPC);
    const auto report = release_and_compare(disk);
    EXPECT_EQ(report.let_go, kDefaultBytes);
    // The chunks' own inodes are free again.
    EXPECT_TRUE(report.probe->creates());
    EXPECT_EQ(create_with_byte(disk / "new"), 0);
}

TEST_F(DiskMatrix, Xfs) {
    const Disk disk({.type = "xfs", .bytes = 320 * kMiB});
    arm(disk.volume());
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
}

TEST_F(DiskMatrix, Tmpfs) {
    const Disk disk({.type = "tmpfs"});
    arm(disk.volume());
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
}

TEST_F(DiskMatrix, HeldOpenByAnotherProcess) {
    const Disk disk({.type = "ext4", .mkfs = {"-m", "0"}});
    arm(disk.volume());
    std::vector<Fd> held;
    for (unsigned i = 0; i < reserve::Plan{}.chunks(); i++) {
        const auto chunk = fmt::format("{}/chunk-{:04}", disk.volume().directory(), i);
        held.emplace_back(open(chunk.c_str(), O_RDONLY | O_CLOEXEC));
        ASSERT_TRUE(held.back());
    }
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
}

TEST_F(DiskMatrix, HardLinked) {
    const Disk disk({.type = "ext4", .mkfs = {"-m", "0"}});
    const auto volume = disk.volume();
    arm(volume);
    mkdir((disk / "copy").c_str(), 0755);
    for (unsigned i = 0; i < reserve::Plan{}.chunks(); i++) {
        const auto chunk = fmt::format("{}/chunk-{:04}", disk.volume().directory(), i);
        ASSERT_EQ(link(chunk.c_str(), fmt::format("{}/{}", disk / "copy", i).c_str()), 0);
    }
    EXPECT_EQ(state(volume), "degraded");
    EXPECT_EQ(measured(volume).releasable, kDefaultBytes);
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
}

// xfs shares no unwritten extents: a reserve that was only allocated keeps its worth.
TEST_F(DiskMatrix, XfsReflinkedWhileAllocated) {
    const Disk disk({.type = "xfs", .bytes = 320 * kMiB});
    arm(disk.volume());
    run({"cp", "-a", "--reflink=always", disk.volume().directory(), disk / "copy"});
    disk.sync();
    EXPECT_EQ(state(disk.volume()), "armed");
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
}

TEST_F(DiskMatrix, XfsReflinkedWhileWritten) {
    const Disk disk({.type = "xfs", .bytes = 320 * kMiB});
    auto volume = disk.volume();
    volume.backing = reserve::Backing::Thin; // written, as on a thin disk
    arm(volume);
    run({"cp", "-a", "--reflink=always", volume.directory(), disk / "copy"});
    disk.sync();
    EXPECT_EQ(state(volume), "placebo");
    EXPECT_EQ(measured(volume).allocated, kDefaultBytes);
    EXPECT_EQ(measured(volume).releasable, 0u);

    ASSERT_EQ(fill(disk / "fill"), ENOSPC);
    const auto report = release_and_compare(disk);
    EXPECT_EQ(report.chunks, reserve::Plan{}.chunks());
    EXPECT_LT(report.gained, kMiB); // nothing, and that is what it says
}

TEST_F(DiskMatrix, SparseBacking) {
    const Disk disk({.type = "ext4", .mkfs = {"-m", "0"}, .sparse_backing = true});
    const auto volume = disk.volume();
    ASSERT_EQ(volume.backing, reserve::Backing::Thin);
    const auto blocks = [&] {
        struct stat st{};
        EXPECT_EQ(stat(disk.backing_file().c_str(), &st), 0);
        return std::uint64_t(st.st_blocks) * 512;
    };
    const auto before = blocks();
    arm(volume);
    disk.sync();
    EXPECT_GE(blocks(), before + kDefaultBytes); // really there below, not only promised
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
    EXPECT_LT(blocks(), 200 * kMiB); // and given back below, by the trim
}

TEST_F(DiskMatrix, AllocatedOnlyOnSparseBacking) {
    const Disk disk({.type = "ext4", .mkfs = {"-m", "0"}, .sparse_backing = true});
    auto volume = disk.volume();
    volume.backing = reserve::Backing::Solid; // laid before the disk became thin
    arm(volume);
    volume = disk.volume();
    EXPECT_EQ(state(volume), "placebo");
    EXPECT_EQ(measured(volume).releasable, 0u);
    const auto healed = reserve::heal(volume, {});
    ASSERT_TRUE(healed) << healed.error().message();
    EXPECT_EQ(healed->healed.size(), reserve::Plan{}.chunks());
    EXPECT_EQ(state(volume), "armed");
}

} // namespace
} // namespace thaw::test
