// SPDX-License-Identifier: MIT
// A loop device whose dirty pages are limited, and only that one: buffered writes to it are held
// back and seen, O_DIRECT ones are not.
#include "core/file.hpp"
#include "disk_lab.hpp"
#include "metrics/dirty_throttle.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <thread>

namespace thaw::test {
namespace {

using metrics::DirtyThrottle;

constexpr std::size_t kPiece = 1 << 20;

// The limits go with the loop device.
void limit_dirty_pages(const std::string& device) {
    struct stat st{};
    ASSERT_EQ(stat(device.c_str(), &st), 0);
    const auto folder = fmt::format("/sys/class/bdi/{}:{}/", major(st.st_rdev), minor(st.st_rdev));
    for (const auto& [name, value] : {std::pair{"strict_limit", "1"}, {"max_bytes", "4194304"}}) {
        const auto file = open_file(folder + name, O_WRONLY);
        if (!file) GTEST_SKIP() << "this kernel has no " << name << " per device (6.2)";
        ASSERT_TRUE(write_all(file->get(), std::string(value)));
    }
}

class Throttled : public ::testing::Test {
protected:
    void SetUp() override {
        if (const auto missing = enter_disk_lab(); !missing.empty()) GTEST_SKIP() << missing;
        // On a real disk: memory would never lag behind.
        const char* folder = std::getenv("THAW_DISK_IMAGES");
        disk_ = std::make_unique<Disk>(DiskOptions{
            .type = "ext4",
            .bytes = 768 * kMiB,
            .image_directory = folder != nullptr ? folder : "/var/tmp",
        });
        limit_dirty_pages(disk_->device());
    }
    // What was counted while a thread wrote so much, with a look every 20 ms.
    DirtyThrottle::Counters write_with(int flags, std::uint64_t bytes) {
        auto loop = EventLoop::create().value();
        const auto throttle = DirtyThrottle::create(loop, 20 * kUsecPerMsec).value();
        const std::string path = *disk_ / "big";
        std::atomic<bool> done = false;
        const auto writing = throttle->begin("a big file");
        std::thread writer([&] {
            const Fd file(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600));
            void* buffer = std::aligned_alloc(4096, kPiece);
            std::fill_n(static_cast<char*>(buffer), kPiece, 'x');
            for (std::uint64_t at = 0; at < bytes; at += kPiece)
                EXPECT_EQ(
                    pwrite(file.get(), buffer, kPiece, static_cast<off_t>(at)), ssize_t{kPiece}
                );
            std::free(buffer);
            done = true;
        });
        while (!done)
            EXPECT_TRUE(loop.run_once(10 * kUsecPerMsec));
        writer.join();
        return throttle->counters();
    }
    std::unique_ptr<Disk> disk_;
};

TEST_F(Throttled, BufferedWritesAreSeenAndDirectOnesAreNot) {
    const auto buffered = write_with(0, 384 * kMiB);
    if (!buffered.known) GTEST_SKIP() << "this kernel does not say where threads sleep";
    EXPECT_GT(buffered.throttled, 0U) << buffered.looks << " looks";
    RecordProperty("buffered", fmt::format("{} of {}", buffered.throttled, buffered.looks));
    disk_->sync();
    const auto direct = write_with(O_DIRECT, 384 * kMiB);
    EXPECT_EQ(direct.throttled, 0U);
    EXPECT_GT(direct.looks, 0U);
    fmt::print(
        "held back: buffered {} of {} looks, O_DIRECT {} of {}\n", buffered.throttled,
        buffered.looks, direct.throttled, direct.looks
    );
}

} // namespace
} // namespace thaw::test
