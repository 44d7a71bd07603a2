// SPDX-License-Identifier: MIT
// Differences on real file systems: which way of copying each allows, no space, a kill.
#include "core/file.hpp"
#include "delta/apply.hpp"
#include "delta/base.hpp"
#include "delta/output_file.hpp"
#include "disk_lab.hpp"
#include "image/range_copier.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <new>
#include <vector>

namespace thaw::test {
namespace {

using delta::DeltaFile;
using delta::Existing;
using delta::OutputFile;
using delta::SourceRun;

constexpr std::uint64_t kBlock = 4096;

class DeltaDisk : public ::testing::Test {
protected:
    void SetUp() override {
        if (const auto missing = enter_disk_lab(); !missing.empty()) GTEST_SKIP() << missing;
    }
    // `bytes` of the letters from `first` on, one per block.
    static Fd lettered(Fd fd, std::uint64_t bytes, char first) {
        std::string text(bytes, '\0');
        for (std::uint64_t at = 0; at < bytes; ++at)
            text[at] = static_cast<char>(first + at / kBlock % 20);
        EXPECT_TRUE(write_all(fd.get(), text));
        EXPECT_EQ(fsync(fd.get()), 0);
        return fd;
    }
    static Fd made(const std::string& path) {
        return open_file(path, O_RDWR | O_CREAT | O_EXCL, 0600).value();
    }
    static delta::Delta over(int base) {
        delta::Delta what;
        what.base = delta::reference_of(base, nullptr).value();
        what.geometry = {.size = what.base.size, .block_size = kBlock};
        return what;
    }
    static std::string text_of(int fd) {
        return read_fd(
                   open_file(fmt::format("/proc/self/fd/{}", fd), O_RDONLY).value().get(), 1 << 30
        )
            .value();
    }
    // Bytes that the file shares with another.
    static std::uint64_t shared_bytes(int fd) {
        constexpr unsigned kExtents = 64;
        std::vector<std::byte> buffer(sizeof(fiemap) + kExtents * sizeof(fiemap_extent));
        auto* map = reinterpret_cast<fiemap*>(buffer.data()); // zeros
        map->fm_length = FIEMAP_MAX_OFFSET;
        map->fm_flags = FIEMAP_FLAG_SYNC;
        map->fm_extent_count = kExtents;
        EXPECT_EQ(ioctl(fd, FS_IOC_FIEMAP, map), 0);
        std::uint64_t shared = 0;
        for (unsigned i = 0; i < map->fm_mapped_extents; ++i)
            if ((map->fm_extents[i].fe_flags & FIEMAP_EXTENT_SHARED) != 0)
                shared += map->fm_extents[i].fe_length;
        return shared;
    }
};

struct Shape {
    std::string type;
    bool reflinks;
    bool memory; // the blocks lie in a memfd instead of a file of the same disk
};

class DeltaShapes : public DeltaDisk, public ::testing::WithParamInterface<Shape> {};

// From every kind of source to every file system and back over the base.
TEST_P(DeltaShapes, RoundTrip) {
    const Shape shape = GetParam();
    const Disk disk({.type = shape.type, .bytes = 320 * kMiB});
    constexpr std::uint64_t kSize = 8 * kMiB;
    const Fd base = lettered(made(disk / "base"), kSize, 'a');
    const Fd blocks = lettered(
        shape.memory ? Fd(memfd_create("blocks", MFD_CLOEXEC)) : made(disk / "blocks"), 4 * kMiB,
        'A'
    );
    const std::vector<SourceRun> sources{
        {.first_block = 3, .count = 1, .fd = blocks.get(), .offset = 512 * kBlock},
        {.first_block = 100, .count = 512, .fd = blocks.get(), .offset = 0},
        {.first_block = 700, .count = 64},
        {.first_block = 900, .count = 300, .fd = blocks.get(), .offset = 600 * kBlock},
    };
    std::string expected = text_of(base.get());
    const std::string source = text_of(blocks.get());
    for (const auto& run : sources)
        expected.replace(
            run.first_block * kBlock, run.count * kBlock,
            run.fd < 0 ? std::string(run.count * kBlock, '\0')
                       : source.substr(run.offset, run.count * kBlock)
        );

    auto output = OutputFile::create(disk / "d", Existing::Refuse);
    ASSERT_TRUE(output) << output.error().message();
    const auto written = delta::write_delta(output->fd(), over(base.get()), sources, nullptr);
    ASSERT_TRUE(written) << written.error().message();
    ASSERT_TRUE(output->publish());
    const auto file = DeltaFile::open(disk / "d");
    ASSERT_TRUE(file) << file.error().message();
    ASSERT_TRUE(file->verify(nullptr));
    if (shape.reflinks) {
        EXPECT_EQ(shared_bytes(file->fd()), 812 * kBlock);
    }

    const Fd out = made(disk / "out");
    const auto applied = delta::apply_to_new(*file, base.get(), out.get(), nullptr);
    ASSERT_TRUE(applied) << applied.error().message();
    EXPECT_TRUE(text_of(out.get()) == expected);
    ASSERT_TRUE(delta::apply_in_place(*file, base.get(), nullptr));
    EXPECT_TRUE(text_of(base.get()) == expected);
}

INSTANTIATE_TEST_SUITE_P(
    Systems, DeltaShapes,
    ::testing::Values(
        Shape{"ext4", false, true}, Shape{"ext4", false, false}, Shape{"xfs", false, true},
        Shape{"xfs", true, false}, Shape{"btrfs", false, true}, Shape{"btrfs", true, false},
        Shape{"tmpfs", false, true}, Shape{"tmpfs", false, false}
    ),
    [](const auto& shape) {
        return shape.param.type + (shape.param.memory ? "FromMemory" : "FromFile");
    }
);

// What the fallback is for: the kernel refuses memfd to disk with EXDEV.
TEST_F(DeltaDisk, TheKernelRefusesWhatTheFallbackIsFor) {
    const Disk disk({.type = "ext4"});
    const Fd blocks = lettered(Fd(memfd_create("blocks", MFD_CLOEXEC)), kMiB, 'A');
    const Fd out = made(disk / "out");
    off_t in = 0;
    off_t to = 0;
    ASSERT_EQ(copy_file_range(blocks.get(), &in, out.get(), &to, kMiB, 0), -1);
    ASSERT_EQ(errno, EXDEV);
    image::RangeCopier copier(blocks.get(), out.get());
    ASSERT_TRUE(copier.copy(0, 0, kMiB));
    EXPECT_FALSE(copier.in_kernel());
    EXPECT_TRUE(text_of(out.get()) == text_of(blocks.get()));

    const Fd file = lettered(made(disk / "file"), kMiB, 'f');
    image::RangeCopier within(file.get(), out.get());
    ASSERT_TRUE(within.copy(0, 0, kMiB));
    EXPECT_TRUE(within.in_kernel());
    EXPECT_TRUE(text_of(out.get()) == text_of(file.get()));
}

TEST_F(DeltaDisk, ADiskThatIsFullLeavesNothing) {
    for (const char* type : {"ext4", "tmpfs"}) {
        const Disk disk({.type = type, .bytes = 32 * kMiB});
        const Fd blocks = lettered(Fd(memfd_create("blocks", MFD_CLOEXEC)), 64 * kMiB, 'A');
        delta::Delta what;
        what.geometry = {.size = 64 * kMiB, .block_size = kBlock};
        const std::vector<SourceRun> sources{
            {.first_block = 0, .count = 64 * kMiB / kBlock, .fd = blocks.get(), .offset = 0}
        };
        const auto before = disk.space();
        {
            auto output = OutputFile::create(disk / "d", Existing::Refuse);
            ASSERT_TRUE(output);
            const auto written = delta::write_delta(output->fd(), what, sources, nullptr);
            ASSERT_FALSE(written);
            EXPECT_EQ(written.error().code(), ENOSPC) << written.error().message();
        }
        EXPECT_NE(access((disk / "d").c_str(), F_OK), 0);
        EXPECT_EQ(disk.space().free, before.free);
    }
}

TEST_F(DeltaDisk, KilledInTheMiddleNothingIsSeenAndNothingIsLost) {
    const Disk disk({.type = "ext4"});
    const auto before = disk.space();
    std::array<int, 2> ready{};
    ASSERT_EQ(pipe(ready.data()), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        const Fd blocks(memfd_create("blocks", MFD_CLOEXEC));
        if (ftruncate(blocks.get(), 64 * kMiB) < 0) _exit(1);
        delta::Delta what;
        what.geometry = {.size = 64 * kMiB, .block_size = kBlock};
        const std::vector<SourceRun> sources{
            {.first_block = 0, .count = 64 * kMiB / kBlock, .fd = blocks.get(), .offset = 0}
        };
        auto output = OutputFile::create(disk / "d", Existing::Refuse);
        if (!output) _exit(2);
        const auto written = delta::write_delta(
            output->fd(), what, sources,
            [&](std::uint64_t done, std::uint64_t total) {
                if (done < total / 2) return true;
                if (write(ready[1], "x", 1) != 1) _exit(5);
                pause();
                return false;
            }
        );
        _exit(written ? 3 : 4);
    }
    close(ready[1]);
    char byte = 0;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    EXPECT_LT(disk.space().free, before.free);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_NE(access((disk / "d").c_str(), F_OK), 0);
    EXPECT_EQ(disk.space().free, before.free);
    close(ready[0]);
}

} // namespace
} // namespace thaw::test
