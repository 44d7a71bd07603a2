// SPDX-License-Identifier: MIT
#include "matrix_fixture.hpp"

namespace thaw::test {

void DiskMatrix::arm(const reserve::Volume& volume, const reserve::Plan& plan) {
    for (;;) {
        const auto laid = reserve::lay_next_chunk(volume, plan);
        ASSERT_TRUE(laid) << laid.error().message();
        if (!*laid) break;
    }
    ASSERT_EQ(state(volume, plan), "armed");
    ASSERT_EQ(measured(volume, plan).releasable, plan.bytes);
}

reserve::Measurement
DiskMatrix::measured(const reserve::Volume& volume, const reserve::Plan& plan) {
    auto result = reserve::measure(volume, plan);
    if (result) return std::move(*result);
    ADD_FAILURE() << result.error().message();
    return {};
}

reserve::ReleaseReport DiskMatrix::release_and_compare(const Disk& disk) {
    const auto before = disk.space();
    auto report = reserve::release(disk.volume());
    const auto after = disk.space();
    if (!report) {
        ADD_FAILURE() << report.error().message();
        return {};
    }
    EXPECT_TRUE(report->problems.empty()) << report->problems.front();
    EXPECT_NEAR(double(report->gained), double(after.free) - double(before.free), kMiB);
    EXPECT_NEAR(
        double(report->gained_available), double(after.available) - double(before.available), kMiB
    );
    return std::move(*report);
}

void DiskMatrix::drill(const Disk& disk, const Drill& how) {
    make_file(disk / "existing");
    EXPECT_EQ(write_byte(disk / "existing", how.writer), 0);
    ASSERT_EQ(fill(disk / "fill", how.writer), how.full);
    ASSERT_EQ(write_byte(disk / "existing", how.writer), how.full);
    if (how.creates) {
        ASSERT_EQ(create_with_byte(disk / "new", how.writer), how.full);
    }
    // The library's own probe is root's, who may have ext4's root pool when a user filled the disk.
    if (how.writer.uid == 0) {
        EXPECT_EQ(reserve::probe(disk.volume()).value().write_error, how.full);
    }

    const auto report = release_and_compare(disk);
    EXPECT_EQ(report.let_go, reserve::kDefaultBytes);
    EXPECT_NEAR(double(report.gained), double(reserve::kDefaultBytes), kMiB);
    EXPECT_TRUE(report.probe->writes()) << errno_text(report.probe->write_error);

    EXPECT_EQ(write_byte(disk / "existing", how.writer), 0);
    if (how.creates) {
        EXPECT_EQ(create_with_byte(disk / "new", how.writer), 0);
        EXPECT_TRUE(report.probe->creates()) << errno_text(report.probe->create_error);
    }
    EXPECT_EQ(state(disk.volume()), "released");
    // Once more changes nothing.
    const auto again = reserve::release(disk.volume());
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ(again->chunks, 0u);
    EXPECT_EQ(again->let_go, 0u);
}

} // namespace thaw::test
