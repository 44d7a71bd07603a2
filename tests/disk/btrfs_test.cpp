// SPDX-License-Identifier: MIT
// btrfs: freed blocks show after a commit, metadata has its own chunks, snapshots pin extents.
#include "core/file.hpp"
#include "matrix_fixture.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::test {
namespace {

using reserve::kDefaultBytes;

TEST_F(DiskMatrix, BtrfsDup) {
    const Disk disk({.type = "btrfs", .mkfs = {"-m", "dup"}});
    arm(disk.volume());
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
}

TEST_F(DiskMatrix, BtrfsSingle) {
    const Disk disk({.type = "btrfs", .mkfs = {"-m", "single"}});
    arm(disk.volume());
    // Making a file can stay impossible: the probe writes to one made beforehand.
    ASSERT_NO_FATAL_FAILURE(drill(disk, {.creates = false}));
}

TEST_F(DiskMatrix, BtrfsMetadataFull) {
    const Disk disk({.type = "btrfs", .mkfs = {"-m", "dup"}});
    arm(disk.volume());
    make_file(disk / "existing");
    mkdir((disk / "many").c_str(), 0755);
    ASSERT_EQ(fill(disk / "fill"), ENOSPC);
    unsigned made = 0;
    ASSERT_EQ(fill_inodes(disk / "many", &made), ENOSPC);
    ASSERT_GT(made, 2000u);
    ASSERT_EQ(write_byte(disk / "existing"), ENOSPC);

    const auto report = release_and_compare(disk);
    EXPECT_NEAR(double(report.gained), double(kDefaultBytes), kMiB);
    EXPECT_TRUE(report.probe->writes()) << errno_text(report.probe->write_error);
    EXPECT_EQ(report.probe->create_error, ENOSPC); // said, not hidden
    EXPECT_EQ(write_byte(disk / "existing"), 0);
    EXPECT_EQ(state(disk.volume()), "released");

    // What the report's reader is told to do next.
    for (unsigned i = 0; i < 2000; i++)
        ASSERT_EQ(unlink(inode_name(disk / "many", i).c_str()), 0);
    disk.sync();
    EXPECT_EQ(create_with_byte(disk / "new"), 0);
}

TEST_F(DiskMatrix, BtrfsCompressing) {
    const Disk disk({.type = "btrfs", .mount_options = "compress-force=zstd"});
    const auto before = disk.space();
    arm(disk.volume());
    EXPECT_GE(before.free - disk.space().free, kDefaultBytes - kMiB);
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
}

TEST_F(DiskMatrix, BtrfsCompressedChunksAreAPlacebo) {
    const Disk disk({.type = "btrfs", .mount_options = "compress-force=zstd"});
    const auto volume = disk.volume();
    arm(volume);
    // As another tool would make them: ordinary files of zeros.
    for (unsigned i = 0; i < reserve::Plan{}.chunks(); i++) {
        const auto chunk = fmt::format("{}/chunk-{:04}", volume.directory(), i);
        ASSERT_EQ(unlink(chunk.c_str()), 0);
        const Fd file(open(chunk.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        ASSERT_TRUE(file);
        run({"chattr", "-C", chunk});
        const std::string zeros(reserve::kChunkBytes, '\0');
        ASSERT_TRUE(write_all(file.get(), zeros));
    }
    disk.sync();
    EXPECT_EQ(state(volume), "placebo");
}

TEST_F(DiskMatrix, BtrfsSnapshotOfTheSurroundingsLeavesTheReserveOut) {
    const Disk disk({.type = "btrfs"});
    arm(disk.volume());
    run({"btrfs", "-q", "subvolume", "snapshot", "-r", disk.path(), disk / "snapshot"});
    disk.sync();
    EXPECT_EQ(state(disk.volume()), "armed");
    ASSERT_NO_FATAL_FAILURE(drill(disk, {}));
}

TEST_F(DiskMatrix, BtrfsSnapshotOfTheReserveItself) {
    // The cleaner of deleted subvolumes wakes up with the commits.
    const Disk disk({.type = "btrfs", .mount_options = "commit=1"});
    const auto volume = disk.volume();
    arm(volume);
    run({"btrfs", "-q", "subvolume", "snapshot", "-r", volume.directory(), disk / "snapshot"});
    disk.sync();
    EXPECT_EQ(state(volume), "placebo");
    EXPECT_EQ(measured(volume).releasable, 0u);
    const auto healed = reserve::heal(volume, {});
    ASSERT_TRUE(healed);
    EXPECT_TRUE(healed->healed.empty()); // a copy would cost the same bytes again

    make_file(disk / "existing");
    ASSERT_EQ(fill(disk / "fill"), ENOSPC);
    const auto report = release_and_compare(disk);
    EXPECT_LT(report.gained, kMiB);
    EXPECT_FALSE(report.probe->writes());

    run({"btrfs", "-q", "subvolume", "delete", disk / "snapshot"});
    run({"btrfs", "subvolume", "sync", disk.path()});
    EXPECT_EQ(write_byte(disk / "existing"), 0);
}

TEST_F(DiskMatrix, BtrfsQuota) {
    const Disk disk({.type = "btrfs"});
    const auto volume = disk.volume();
    run({"btrfs", "quota", "enable", disk.path()});
    run({"btrfs", "-q", "subvolume", "create", disk / "data"});
    arm(volume);
    run({"btrfs", "qgroup", "create", "1/1", disk.path()});
    for (const auto& subvolume : {volume.directory(), disk / "data"}) {
        struct stat st{};
        ASSERT_EQ(stat(subvolume.c_str(), &st), 0);
        ASSERT_EQ(st.st_ino, 256u) << subvolume << " is no subvolume";
        // Its id is in the first field of "ID gen 256 ..." of the listing; the qgroup is named by
        // it.
        run(
            {"sh", "-c",
             "btrfs qgroup assign 0/$(btrfs inspect-internal rootid " + subvolume + ") 1/1 " +
                 disk.path() + " || test $? = 1"}
        );
    }
    run({"btrfs", "quota", "rescan", "-w", disk.path()});
    run({"btrfs", "qgroup", "limit", "96M", "1/1", disk.path()});
    make_file(disk / "data/existing");
    ASSERT_EQ(fill(disk / "data/fill"), EDQUOT);
    ASSERT_EQ(write_byte(disk / "data/existing"), EDQUOT);
    const auto report = release_and_compare(disk);
    EXPECT_NEAR(double(report.gained), double(kDefaultBytes), kMiB);
    EXPECT_EQ(write_byte(disk / "data/existing"), 0);
    EXPECT_EQ(create_with_byte(disk / "data/new"), 0);

    // Coming back is refused by the quota, and leaves nothing behind.
    ASSERT_EQ(fill(disk / "data/fill"), EDQUOT);
    const auto laid = reserve::lay_next_chunk(volume, {});
    ASSERT_FALSE(laid);
    EXPECT_EQ(laid.error().code(), EDQUOT);
    EXPECT_EQ(state(volume), "released");
}

} // namespace
} // namespace thaw::test
