// SPDX-License-Identifier: MIT
// Finding volumes, and several processes at one reserve, on real mounts.
#include "core/file.hpp"
#include "matrix_fixture.hpp"
#include "reserve/rearm.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace thaw::test {
namespace {

using reserve::find_reserves;
using reserve::find_volumes;
using reserve::kDefaultBytes;

class DiskVolume : public DiskMatrix {};

class Bind {
public:
    Bind(const std::string& from, const std::string& to, const std::string& options = "bind")
        : to_(to) {
        mkdir(to.c_str(), 0755);
        run({"mount", "-o", options, from, to});
    }
    ~Bind() { umount2(to_.c_str(), MNT_DETACH); }

private:
    std::string to_;
};

TEST_F(DiskVolume, BindMountsAreOneVolume) {
    const Disk disk({.type = "ext4"});
    const Disk other({.type = "tmpfs"});
    mkdir((disk / "part").c_str(), 0755);
    const Bind bind(disk / "part", other / "bound");
    const std::vector<std::string> paths{other / "bound/x/y", disk / "part", disk.path()};
    const auto found = find_volumes(paths);
    ASSERT_EQ(found.volumes.size(), 1u);
    EXPECT_TRUE(found.problems.empty());
    EXPECT_EQ(found.volumes[0].paths, paths);
    EXPECT_EQ(found.volumes[0].mount_points.size(), 2u);
    EXPECT_EQ(found.volumes[0].mount_point, other / "bound"); // where the first path lies
    EXPECT_FALSE(found.volumes[0].has_reserve);
    // Once one of them has a reserve, all ways lead to it.
    arm(disk.volume());
    EXPECT_EQ(find_volumes(paths).volumes[0].mount_point, disk.path());
    EXPECT_TRUE(find_volumes(paths).volumes[0].has_reserve);
}

TEST_F(DiskVolume, SubvolumesAreOneVolume) {
    const Disk disk({.type = "btrfs"});
    const Disk other({.type = "tmpfs"});
    run({"btrfs", "-q", "subvolume", "create", disk / "one"});
    run({"btrfs", "-q", "subvolume", "create", disk / "two"});
    mkdir((other / "two").c_str(), 0755);
    run({"mount", "-o", "subvol=two", disk.device(), other / "two"});
    const std::vector<std::string> paths{disk / "one", other / "two"};
    const auto found = find_volumes(paths);
    ASSERT_EQ(found.volumes.size(), 1u);
    EXPECT_EQ(found.volumes[0].uuid.size(), 36u);
    EXPECT_EQ(found.volumes[0].id, found.volumes[0].uuid);
    arm(found.volumes[0]);
    struct stat st{};
    ASSERT_EQ(stat(found.volumes[0].directory().c_str(), &st), 0);
    EXPECT_EQ(st.st_ino, 256u); // a subvolume of its own
    umount2((other / "two").c_str(), 0);
}

TEST_F(DiskVolume, UuidIsTheFileSystems) {
    for (const char* type : {"ext4", "xfs", "btrfs"}) {
        const Disk disk({.type = type, .bytes = 320 * kMiB});
        const auto volume = disk.volume();
        run({"sh", "-c", "test $(blkid -p -o value -s UUID " + disk.device() + ") = " + volume.uuid}
        );
        EXPECT_EQ(volume.type, type);
        EXPECT_EQ(volume.source, disk.device());
    }
}

TEST_F(DiskVolume, AClonedDiskIsAnotherVolume) {
    const std::string uuid = "12345678-1234-1234-1234-123456789abc";
    const Disk a({.type = "ext4", .mkfs = {"-U", uuid}});
    const Disk b({.type = "ext4", .mkfs = {"-U", uuid}});
    const std::vector<std::string> paths{a.path(), b.path()};
    const auto found = find_volumes(paths);
    ASSERT_EQ(found.volumes.size(), 2u);
    EXPECT_EQ(found.volumes[0].id, uuid);
    EXPECT_NE(found.volumes[1].id, uuid);
    EXPECT_TRUE(found.volumes[1].id.starts_with(uuid + "-"));
}

TEST_F(DiskVolume, NothingPinsTheMount) {
    Disk disk({.type = "ext4"});
    const auto volume = disk.volume();
    arm(volume);
    ASSERT_TRUE(reserve::heal(volume, {}));
    ASSERT_TRUE(reserve::probe(volume));
    ASSERT_TRUE(reserve::release(volume, {.bytes = 1}));
    ASSERT_TRUE(disk.unmount());
    // What is below the mount point is not the volume, and is left alone.
    EXPECT_EQ(reserve::measure(volume, {}).error().code(), ESTALE);
    EXPECT_EQ(reserve::release(volume).error().code(), ESTALE);
    EXPECT_EQ(reserve::lay_next_chunk(volume, {}).error().code(), ESTALE);
    EXPECT_NE(access(volume.directory().c_str(), F_OK), 0);
}

TEST_F(DiskVolume, ReservesAreFoundWithoutConfiguration) {
    const Disk with({.type = "ext4"});
    const Disk without({.type = "ext4"});
    arm(with.volume());
    const auto reserves = find_reserves();
    ASSERT_TRUE(reserves);
    const auto has = [&](const Disk& disk) {
        return std::ranges::count(*reserves, disk.path(), &reserve::Volume::mount_point);
    };
    EXPECT_EQ(has(with), 1);
    EXPECT_EQ(has(without), 0);
    EXPECT_EQ(reserve::releasable_at(with / "any/where"), kDefaultBytes);
    EXPECT_EQ(reserve::releasable_at(without.path()), 0u);
    ASSERT_TRUE(reserve::release(with.volume()));
    EXPECT_EQ(reserve::releasable_at(with.path()), 0u);
}

TEST_F(DiskVolume, AMountOverItHidesIt) {
    const Disk disk({.type = "ext4"});
    arm(disk.volume());
    const Disk other({.type = "tmpfs"});
    const Bind over(other.path(), disk.path());
    EXPECT_EQ(disk.volume().type, "tmpfs");
    EXPECT_EQ(reserve::releasable_at(disk.path()), 0u);
}

TEST_F(DiskVolume, ADirectoryOfSomebodyElseIsNotOurs) {
    const Disk disk({.type = "ext4"});
    mkdir((disk / reserve::kDirectory).c_str(), 0755);
    ASSERT_EQ(chown((disk / reserve::kDirectory).c_str(), kNobody, kNobody), 0);
    make_file(disk / ".thaw-reserve/chunk-0000");
    EXPECT_FALSE(disk.volume().has_reserve);
    EXPECT_EQ(reserve::release(disk.volume()).error().code(), EPERM);
    EXPECT_EQ(reserve::lay_next_chunk(disk.volume(), {}).error().code(), EPERM);
    EXPECT_EQ(access((disk / ".thaw-reserve/chunk-0000").c_str(), F_OK), 0);
}

TEST_F(DiskVolume, ReadOnlyFileSystem) {
    const Disk disk({.type = "ext4"});
    const auto volume = disk.volume();
    run({"mount", "-o", "remount,ro", disk.path()});
    EXPECT_TRUE(disk.volume().read_only);
    EXPECT_EQ(reserve::lay_next_chunk(volume, {}).error().code(), EROFS);
    EXPECT_EQ(state_name(reserve::judge(measured(volume), false, true)), "failed");
}

TEST_F(DiskVolume, PlainDirectoryOnBtrfsMakesWay) {
    const Disk disk({.type = "btrfs"});
    const auto directory = disk / reserve::kDirectory;
    mkdir(directory.c_str(), 0755);
    make_file(directory + "/README");
    arm(disk.volume());
    struct stat st{};
    ASSERT_EQ(stat(directory.c_str(), &st), 0);
    EXPECT_EQ(st.st_ino, 256u);
}

// A snapshot that is mounted instead of its origin has an empty stub where the subvolume was.
TEST_F(DiskVolume, RolledBackToASnapshot) {
    const Disk other({.type = "tmpfs"});
    Disk disk({.type = "btrfs"});
    arm(disk.volume());
    run({"btrfs", "-q", "subvolume", "snapshot", disk.path(), disk / "snapshot"});
    const auto root = other / "root";
    mkdir(root.c_str(), 0755);
    run({"mount", "-o", "subvol=snapshot", disk.device(), root});
    ASSERT_TRUE(disk.unmount());
    const auto volume = reserve::find_volume(root);
    ASSERT_TRUE(volume) << volume.error().message();
    EXPECT_EQ(state(*volume), "released");
    arm(*volume);
    struct stat st{};
    ASSERT_EQ(stat(volume->directory().c_str(), &st), 0);
    EXPECT_EQ(st.st_ino, 256u);
    umount2(root.c_str(), 0);
}

TEST_F(DiskVolume, FirstArmingOfASmallDiskIsDeferred) {
    const Disk disk({.type = "ext4", .mkfs = {"-m", "0"}, .bytes = 128 * kMiB});
    const auto now = measured(disk.volume());
    EXPECT_FALSE(now.text);
    reserve::RearmClock clock;
    const auto decision = reserve::decide_rearm({}, now, 0, clock);
    EXPECT_EQ(decision.action, reserve::RearmAction::Deferred);
    EXPECT_EQ(decision.threshold, 2 * kDefaultBytes);
    EXPECT_LT(decision.free, decision.threshold);
    EXPECT_EQ(state_name(reserve::judge(now, true, false)), "deferred");
}

TEST_F(DiskVolume, PartialReleaseIsInChunks) {
    const Disk disk({.type = "ext4", .mkfs = {"-m", "0"}});
    const auto volume = disk.volume();
    arm(volume);
    const auto report = reserve::release(volume, {.bytes = 9 * kMiB});
    ASSERT_TRUE(report);
    EXPECT_EQ(report->chunks, 2u);
    EXPECT_EQ(report->let_go, 16 * kMiB);
    EXPECT_EQ(report->remaining, 48 * kMiB);
    EXPECT_EQ(state(volume), "degraded");
    EXPECT_EQ(measured(volume).missing, 16 * kMiB);
}

// Many processes lay and release at once: never more than the plan, never a torn state.
TEST_F(DiskVolume, SeveralProcessesAtOnce) {
    const Disk disk({.type = "tmpfs"});
    const auto volume = disk.volume();
    std::vector<pid_t> children;
    for (int i = 0; i < 6; i++) {
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            for (int turn = 0; turn < 200; turn++) {
                const auto laid = reserve::lay_next_chunk(volume, {});
                if (!laid && laid.error().code() != EBUSY) _exit(1);
                if (turn % 50 == 49 && !reserve::release(volume, {.bytes = 1})) _exit(2);
            }
            _exit(0);
        }
        children.push_back(child);
    }
    for (const pid_t child : children) {
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
    }
    arm(volume);
    EXPECT_NEAR(double(disk.space().total - disk.space().free), double(kDefaultBytes), kMiB);
}

TEST_F(DiskVolume, AHeldLockDelaysAReleaseByOneSecond) {
    const Disk disk({.type = "ext4"});
    const auto volume = disk.volume();
    arm(volume);
    const Fd holder(open(volume.directory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_EQ(flock(holder.get(), LOCK_EX), 0);
    EXPECT_EQ(reserve::lay_next_chunk(volume, {}).error().code(), EBUSY);
    const auto begin = std::chrono::steady_clock::now();
    const auto report = reserve::release(volume);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->lock_ignored);
    EXPECT_EQ(report->let_go, kDefaultBytes);
    EXPECT_GE(took.count(), 0.9);
    EXPECT_LT(took.count(), 3);
    // Free again: no delay, no warning.
    ASSERT_EQ(flock(holder.get(), LOCK_UN), 0);
    EXPECT_FALSE(reserve::release(volume)->lock_ignored);
}

} // namespace
} // namespace thaw::test
