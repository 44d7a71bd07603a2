// SPDX-License-Identifier: MIT
#include "reserve/mounts.hpp"

#include <gtest/gtest.h>

#include <sys/sysmacros.h>

namespace thaw::reserve {
namespace {

TEST(Mountinfo, ReadsTheFields) {
    const auto mounts = parse_mountinfo(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n"
        "30 22 0:26 /@home /home rw,noatime shared:2 master:3 - btrfs /dev/sda2 rw,subvol=/@home\n"
        "31 22 8:1 / /usr ro,relatime - ext4 /dev/sda1 rw\n"
        "32 22 8:2 / /boot rw - vfat /dev/sda3 ro,errors=remount-ro\n"
    );
    ASSERT_EQ(mounts.size(), 4u);
    EXPECT_EQ(mounts[0].id, 22u);
    EXPECT_EQ(mounts[0].device, makedev(254, 0));
    EXPECT_EQ(mounts[0].point, "/");
    EXPECT_EQ(mounts[0].type, "ext4");
    EXPECT_EQ(mounts[0].source, "/dev/vda");
    EXPECT_FALSE(mounts[0].read_only);
    EXPECT_EQ(mounts[1].root, "/@home");
    EXPECT_EQ(mounts[1].type, "btrfs");
    EXPECT_FALSE(mounts[1].read_only);
    EXPECT_TRUE(mounts[2].read_only); // of the mount
    EXPECT_TRUE(mounts[3].read_only); // of the file system; "errors=remount-ro" would not do
}

TEST(Mountinfo, UnescapesBlanks) {
    const auto mounts =
        parse_mountinfo("40 22 8:1 /a\\040b /media/my\\040disk\\134x rw - ext4 /dev/s\\011b rw\n");
    ASSERT_EQ(mounts.size(), 1u);
    EXPECT_EQ(mounts[0].root, "/a b");
    EXPECT_EQ(mounts[0].point, "/media/my disk\\x");
    EXPECT_EQ(mounts[0].source, "/dev/s\tb");
}

TEST(Mountinfo, LeavesOutWhatItCannotRead) {
    EXPECT_TRUE(parse_mountinfo("").empty());
    EXPECT_TRUE(parse_mountinfo("nonsense\n\n").empty());
    EXPECT_TRUE(parse_mountinfo("22 1 254 / / rw - ext4 /dev/vda rw").empty());
    EXPECT_TRUE(parse_mountinfo("x 1 8:1 / / rw - ext4 /dev/vda rw").empty());
    EXPECT_TRUE(parse_mountinfo("22 1 8:1 / / rw shared:1 ext4 /dev/vda rw").empty());
    EXPECT_TRUE(parse_mountinfo("22 1 8:1 / / rw - ext4").empty());
    const auto mounts = parse_mountinfo("bad\n22 1 8:1 / / rw - ext4 /dev/vda rw");
    ASSERT_EQ(mounts.size(), 1u);
    EXPECT_EQ(mounts[0].id, 22u);
}

} // namespace
} // namespace thaw::reserve
