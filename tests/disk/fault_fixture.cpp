// SPDX-License-Identifier: MIT
#include "fault_fixture.hpp"

#include "reserve/arm.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

namespace thaw::test {

namespace {

constexpr int kTurns = 20;
// Directory, text and probe file, and what the file system itself keeps (btrfs: twice, and
// subvolumes that are being cleaned away).
constexpr double kSmallFiles = 2.0 * kMiB;

bool is_whole(std::uint64_t length) {
    return length == kSmallPlan.chunk_length(0) || length == kSmallPlan.chunk_length(2);
}

} // namespace

void FaultyDisk::SetUp() {
    const auto missing = enter_disk_lab();
    if (!missing.empty()) GTEST_SKIP() << missing;
    const std::string type = GetParam();
    disk_ = std::make_unique<Disk>(
        DiskOptions{.type = type, .bytes = (type == "xfs" ? 320 : 160) * kMiB}
    );
    volume_ = disk_->volume();
}

void FaultyDisk::wipe() {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(directory(), ignored))
        std::filesystem::remove_all(entry.path(), ignored);
    rmdir(directory().c_str()); // of a subvolume too
    ASSERT_NE(access(directory().c_str(), F_OK), 0);
    free_before_ = disk_->space().free;
}

Truth FaultyDisk::truth() const {
    Truth truth;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(directory(), ignored)) {
        struct stat st{};
        if (lstat(entry.path().c_str(), &st) < 0 || !S_ISREG(st.st_mode)) continue;
        const auto bytes = static_cast<std::uint64_t>(st.st_blocks) * 512;
        if (entry.path().filename().string().starts_with("chunk-")) {
            truth.chunks += st.st_size > 0 ? 1 : 0;
            truth.torn +=
                st.st_size > 0 && !is_whole(static_cast<std::uint64_t>(st.st_size)) ? 1 : 0;
            truth.allocated += bytes;
        } else if (bytes > 64 << 10) {
            truth.leftovers += bytes;
        }
    }
    return truth;
}

void FaultyDisk::converge_to_armed() {
    for (int turn = 0; turn < kTurns; turn++) {
        const auto healed = reserve::heal(volume_, kSmallPlan);
        ASSERT_TRUE(healed) << healed.error().message();
        const auto laid = reserve::lay_next_chunk(volume_, kSmallPlan);
        ASSERT_TRUE(laid) << laid.error().message();
        if (!*laid) break;
    }
    const auto measured = reserve::measure(volume_, kSmallPlan);
    ASSERT_TRUE(measured) << measured.error().message();
    ASSERT_EQ(reserve::judge(*measured, false, false), reserve::State::Armed);
    const auto now = truth();
    EXPECT_EQ(now.chunks, kSmallPlan.chunks());
    EXPECT_GE(now.allocated, kSmallPlan.bytes);
    EXPECT_EQ(now.leftovers, 0u);
}

void FaultyDisk::expect_released() {
    const auto now = truth();
    EXPECT_EQ(now.chunks, 0u);
    EXPECT_EQ(now.allocated + now.leftovers, 0u);
    // xfs frees what was unlinked in the background.
    const auto is_back = [&] {
        return double(disk_->space().free) + kSmallFiles >= double(free_before_);
    };
    for (int i = 0; i < 500 && !is_back(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_NEAR(double(disk_->space().free), double(free_before_), kSmallFiles);
}

void FaultyDisk::expect_no_false_armed(const std::string& context) {
    const auto measured = reserve::measure(volume_, kSmallPlan);
    if (!measured || reserve::judge(*measured, false, false) != reserve::State::Armed) return;
    const auto now = truth();
    EXPECT_EQ(now.chunks, kSmallPlan.chunks()) << context;
    EXPECT_GE(now.allocated, kSmallPlan.bytes) << context;
}

} // namespace thaw::test
