// SPDX-License-Identifier: MIT
// Damage to a laid reserve: seen for what it is, and healed; never trusted, never followed.
#include "core/file.hpp"
#include "matrix_fixture.hpp"
#include "reserve/rearm.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

namespace thaw::test {
namespace {

using reserve::ChunkHealth;
using reserve::kChunkBytes;
using reserve::kDefaultBytes;

class DiskHeal : public DiskMatrix {
protected:
    void SetUp() override {
        DiskMatrix::SetUp();
        if (IsSkipped()) return;
        disk_ = std::make_unique<Disk>(DiskOptions{.type = "ext4", .mkfs = {"-m", "0"}});
        volume_ = disk_->volume();
        arm(volume_);
    }
    std::string chunk(unsigned index) const {
        return fmt::format("{}/chunk-{:04}", volume_.directory(), index);
    }
    ChunkHealth health(unsigned index) const { return measured(volume_).chunks.at(index).health; }
    // One heal() makes chunk 3 sound again, and all of it armed.
    void expect_healed(ChunkHealth damage) {
        const auto before = measured(volume_);
        EXPECT_EQ(before.chunks.at(3).health, damage);
        EXPECT_EQ(state_name(reserve::judge(before, false, false)), "degraded");
        EXPECT_TRUE(reserve::needs_healing(before));
        const auto report = reserve::heal(volume_, {});
        ASSERT_TRUE(report) << report.error().message();
        EXPECT_EQ(report->healed, std::vector<unsigned>{3});
        EXPECT_TRUE(report->problems.empty());
        EXPECT_EQ(state(volume_), "armed");
        EXPECT_FALSE(reserve::needs_healing(measured(volume_)));
    }

    std::unique_ptr<Disk> disk_;
    reserve::Volume volume_;
};

TEST_F(DiskHeal, CutShort) {
    ASSERT_EQ(truncate(chunk(3).c_str(), 4096), 0);
    expect_healed(ChunkHealth::CutShort);
}

TEST_F(DiskHeal, SparseDespiteItsLength) {
    ASSERT_EQ(truncate(chunk(3).c_str(), 0), 0);
    ASSERT_EQ(truncate(chunk(3).c_str(), kChunkBytes), 0);
    EXPECT_EQ(measured(volume_).releasable, kDefaultBytes - kChunkBytes);
    expect_healed(ChunkHealth::Sparse);
}

TEST_F(DiskHeal, HardLinked) {
    ASSERT_EQ(link(chunk(3).c_str(), (*disk_ / "copy").c_str()), 0);
    expect_healed(ChunkHealth::HardLinked);
    struct stat st{};
    ASSERT_EQ(stat((*disk_ / "copy").c_str(), &st), 0);
    EXPECT_EQ(st.st_nlink, 1u); // the other name keeps its file
    EXPECT_EQ(st.st_size, off_t(kChunkBytes));
}

TEST_F(DiskHeal, SymlinkIsReplacedAndItsTargetUntouched) {
    const auto target = *disk_ / "precious";
    ASSERT_TRUE(write_file_atomic(target, "content"));
    ASSERT_EQ(unlink(chunk(3).c_str()), 0);
    ASSERT_EQ(symlink(target.c_str(), chunk(3).c_str()), 0);
    expect_healed(ChunkHealth::Symlink);
    EXPECT_EQ(read_file(target), "content");
}

TEST_F(DiskHeal, ReleaseRemovesASymlinkNotItsTarget) {
    const auto target = *disk_ / "precious";
    ASSERT_TRUE(write_file_atomic(target, "content"));
    ASSERT_EQ(unlink(chunk(3).c_str()), 0);
    ASSERT_EQ(symlink(target.c_str(), chunk(3).c_str()), 0);
    const auto report = reserve::release(volume_);
    ASSERT_TRUE(report);
    EXPECT_EQ(report->let_go, kDefaultBytes - kChunkBytes);
    EXPECT_EQ(read_file(target), "content");
    EXPECT_EQ(state(volume_), "released");
}

TEST_F(DiskHeal, FifoDoesNotHangAnything) {
    ASSERT_EQ(unlink(chunk(3).c_str()), 0);
    ASSERT_EQ(mkfifo(chunk(3).c_str(), 0600), 0);
    expect_healed(ChunkHealth::NotRegular);
}

TEST_F(DiskHeal, EmptyDirectoryGoes) {
    ASSERT_EQ(unlink(chunk(3).c_str()), 0);
    ASSERT_EQ(mkdir(chunk(3).c_str(), 0700), 0);
    expect_healed(ChunkHealth::NotRegular);
}

TEST_F(DiskHeal, ADirectoryWithContentIsAPersons) {
    ASSERT_EQ(unlink(chunk(3).c_str()), 0);
    ASSERT_EQ(mkdir(chunk(3).c_str(), 0700), 0);
    make_file(chunk(3) + "/theirs");
    const auto report = reserve::heal(volume_, {});
    ASSERT_TRUE(report);
    ASSERT_EQ(report->problems.size(), 1u);
    EXPECT_EQ(report->problems[0].index, 3u);
    EXPECT_EQ(state(volume_), "degraded");
    EXPECT_EQ(access((chunk(3) + "/theirs").c_str(), F_OK), 0);
    // It is in nobody's way when the rest has to go.
    const auto released = reserve::release(volume_);
    ASSERT_TRUE(released);
    EXPECT_EQ(released->let_go, kDefaultBytes - kChunkBytes);
    EXPECT_EQ(released->problems.size(), 1u);
}

TEST_F(DiskHeal, WritableByOthers) {
    ASSERT_EQ(chmod(chunk(3).c_str(), 0666), 0);
    expect_healed(ChunkHealth::Exposed);
    ASSERT_EQ(chown(chunk(3).c_str(), kNobody, kNobody), 0);
    expect_healed(ChunkHealth::Exposed);
}

TEST_F(DiskHeal, TooLong) {
    ASSERT_EQ(truncate(chunk(3).c_str(), 2 * kChunkBytes), 0);
    expect_healed(ChunkHealth::TooLong);
}

TEST_F(DiskHeal, AbsentOrEmptyIsReleasedAndNotHealed) {
    ASSERT_EQ(unlink(chunk(3).c_str()), 0);
    ASSERT_EQ(truncate(chunk(4).c_str(), 0), 0);
    const auto now = measured(volume_);
    EXPECT_EQ(now.missing, 2 * kChunkBytes);
    EXPECT_EQ(now.missing_chunks, 2u);
    EXPECT_FALSE(reserve::needs_healing(now));
    const auto report = reserve::heal(volume_, {});
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->healed.empty());
    EXPECT_EQ(measured(volume_).missing, 2 * kChunkBytes);
    // Laying brings them back, in order.
    EXPECT_EQ(reserve::lay_next_chunk(volume_, {}).value(), 3u);
    EXPECT_EQ(reserve::lay_next_chunk(volume_, {}).value(), 4u);
    EXPECT_FALSE(reserve::lay_next_chunk(volume_, {}).value());
    EXPECT_EQ(state(volume_), "armed");
}

TEST_F(DiskHeal, ASmallerPlanGivesTheSurplusBack) {
    const reserve::Plan smaller{.bytes = 20 * kMiB};
    EXPECT_EQ(state(volume_, smaller), "degraded");
    const auto report = reserve::heal(volume_, smaller);
    ASSERT_TRUE(report);
    EXPECT_EQ(state(volume_, smaller), "armed");
    EXPECT_EQ(measured(volume_, smaller).releasable, 20 * kMiB);
    // And a larger one grows the last chunk in place; the rest is the re-arm rule's.
    EXPECT_EQ(measured(volume_).chunks.at(2).health, ChunkHealth::CutShort);
    ASSERT_TRUE(reserve::heal(volume_, {}));
    EXPECT_EQ(measured(volume_).missing, 5 * kChunkBytes);
}

TEST_F(DiskHeal, AProvisionalPlanTakesNothingAway) {
    const reserve::Plan provisional{.bytes = 16 * kMiB, .provisional = true};
    EXPECT_EQ(state(volume_, provisional), "armed");
    ASSERT_TRUE(reserve::heal(volume_, provisional));
    EXPECT_EQ(measured(volume_, provisional).releasable, kDefaultBytes);
}

TEST_F(DiskHeal, TextAndLeftovers) {
    const auto text = volume_.directory() + "/README";
    const auto good = read_file(text);
    ASSERT_TRUE(good);
    EXPECT_NE(good->find("thawctl reserve release"), std::string::npos);
    ASSERT_EQ(unlink(text.c_str()), 0);
    EXPECT_TRUE(reserve::needs_healing(measured(volume_)));
    // What a killed arming leaves, holding space without counting.
    const Fd file(open((volume_.directory() + "/.fresh-0003").c_str(), O_RDWR | O_CREAT, 0600));
    ASSERT_EQ(fallocate(file.get(), 0, 0, kMiB), 0);
    ASSERT_TRUE(reserve::heal(volume_, {}));
    EXPECT_EQ(read_file(text).value_or(""), *good);
    struct stat st{};
    ASSERT_EQ(fstat(file.get(), &st), 0);
    EXPECT_EQ(st.st_nlink, 0u);
    EXPECT_EQ(st.st_blocks, 0);
}

TEST_F(DiskHeal, OnAFullDiskDamageStaysAndIsSaid) {
    ASSERT_EQ(truncate(chunk(3).c_str(), 4096), 0);
    ASSERT_EQ(link(chunk(5).c_str(), (*disk_ / "copy").c_str()), 0);
    ASSERT_EQ(fill(*disk_ / "fill"), ENOSPC);
    const auto report = reserve::heal(volume_, {});
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->healed.empty());
    ASSERT_EQ(report->problems.size(), 2u);
    EXPECT_EQ(report->problems[0].error.code(), ENOSPC);
    EXPECT_EQ(report->problems[1].error.code(), ENOSPC);
    EXPECT_EQ(health(3), ChunkHealth::CutShort); // as it was
    EXPECT_EQ(health(5), ChunkHealth::HardLinked);
    EXPECT_EQ(state(volume_), "degraded");
}

TEST_F(DiskHeal, RunningOutOfRoomHalfwayTakesNothing) {
    ASSERT_EQ(truncate(chunk(3).c_str(), 4096), 0);
    make_file(*disk_ / "some");
    const Fd some(open((*disk_ / "some").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(fallocate(some.get(), 0, 0, 4 * kMiB), 0);
    ASSERT_EQ(fill(*disk_ / "fill"), ENOSPC);
    ASSERT_EQ(ftruncate(some.get(), 0), 0);
    const auto before = disk_->space().available;
    ASSERT_GE(before, 3 * kMiB);
    const auto report = reserve::heal(volume_, {});
    ASSERT_TRUE(report);
    ASSERT_EQ(report->problems.size(), 1u);
    EXPECT_EQ(report->problems[0].error.code(), ENOSPC);
    struct stat st{};
    ASSERT_EQ(stat(chunk(3).c_str(), &st), 0);
    EXPECT_EQ(st.st_size, 4096);
    EXPECT_NEAR(double(disk_->space().available), double(before), 64.0 * 1024);
}

} // namespace
} // namespace thaw::test
