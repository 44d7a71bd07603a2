// SPDX-License-Identifier: MIT
#include "device.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

namespace thaw::nbd {
namespace {

TEST(FreeDevices, AreThoseThatNobodyIsConnectedTo) {
    const test::TemporaryDirectory sysfs;
    for (const char* file :
         {"nbd10/size", "nbd2/size", "nbd0/pid", "nbd1/pid", "sda/size", "nbdx/size"})
        sysfs.write(file, "0\n");
    const auto found = free_devices(sysfs.path());
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(*found, (std::vector<unsigned>{2, 10}));
}

TEST(FreeDevices, NoneAtAllIsAnotherThingThanNoneFree) {
    const test::TemporaryDirectory sysfs;
    sysfs.write("nbd0/pid", "1\n");
    const auto none = free_devices(sysfs.path());
    ASSERT_TRUE(none) << none.error().message();
    EXPECT_TRUE(none->empty());
    const test::TemporaryDirectory empty;
    const auto found = free_devices(empty.path());
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code(), ENODEV);
}

} // namespace
} // namespace thaw::nbd
