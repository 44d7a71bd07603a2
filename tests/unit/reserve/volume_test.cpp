// SPDX-License-Identifier: MIT
#include "reserve/volume.hpp"

#include <gtest/gtest.h>

namespace thaw::reserve {
namespace {

std::vector<Volume> two() {
    Volume a;
    a.id = a.uuid = "11111111-aaaa";
    a.mount_point = "/";
    a.mount_points = {"/", "/var/lib/thaw"};
    a.source = "/dev/vda";
    Volume b;
    b.id = "tmpfs-0-45";
    b.mount_point = "/scratch";
    b.mount_points = {"/scratch"};
    b.source = "tmpfs";
    return {a, b};
}

TEST(PickVolume, ByEveryNameItHas) {
    const auto volumes = two();
    for (const char* name : {"11111111-aaaa", "/", "/var/lib/thaw", "/dev/vda"}) {
        const auto picked = pick_volume(volumes, name);
        ASSERT_TRUE(picked) << name;
        EXPECT_EQ(picked->id, "11111111-aaaa");
    }
    EXPECT_EQ(pick_volume(volumes, "/scratch")->id, "tmpfs-0-45");
    EXPECT_EQ(pick_volume(volumes, "tmpfs-0-45")->id, "tmpfs-0-45");
}

TEST(PickVolume, RefusesWhatIsNone) {
    EXPECT_EQ(pick_volume(two(), "").error().code(), EINVAL);
    EXPECT_EQ(pick_volume(two(), "2222").error().code(), ENOENT);
    EXPECT_EQ(pick_volume(two(), "/proc/self").error().code(), ENOENT);
}

TEST(Volume, DirectoryBelowTheMountPoint) {
    const auto volumes = two();
    EXPECT_EQ(volumes[0].directory(), "/.thaw-reserve");
    EXPECT_EQ(volumes[1].directory(), "/scratch/.thaw-reserve");
}

TEST(FindVolumes, MissingPathsBelongToTheirNearestAncestor) {
    const auto here = find_volume("/tmp");
    ASSERT_TRUE(here) << here.error().message();
    const auto missing = find_volume("/tmp/no/such/folder");
    ASSERT_TRUE(missing) << missing.error().message();
    EXPECT_EQ(missing->id, here->id);
    EXPECT_EQ(missing->device, here->device);
    EXPECT_FALSE(here->id.empty());
    EXPECT_EQ(
        here->id.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz-"), std::string::npos
    ) << here->id;
}

TEST(FindVolumes, OneFileSystemIsOneVolume) {
    const std::vector<std::string> paths{"/tmp", "/tmp/..", "/tmp", "relative-and-missing"};
    const auto found = find_volumes(paths);
    ASSERT_GE(found.volumes.size(), 1u);
    EXPECT_GE(found.volumes[0].paths.size(), 2u);
    ASSERT_EQ(found.problems.size(), 1u);
    EXPECT_EQ(found.problems[0].path, "relative-and-missing");
}

} // namespace
} // namespace thaw::reserve
