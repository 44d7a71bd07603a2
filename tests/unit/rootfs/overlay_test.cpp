// SPDX-License-Identifier: MIT
// What an overlay keeps, what it gives back, and what it says when there is no more room.
#include "overlay_fixture.hpp"

#include <sys/stat.h>

#include <thread>

namespace thaw::rootfs::test {
namespace {

constexpr std::uint64_t kDisk = 64 << 20;

struct Limits {
    std::uint64_t memory = 0;
    std::uint64_t disk = 0; // 0: no disk tier
};

std::unique_ptr<Overlay> overlay_with(Limits limits, std::uint64_t size = kDisk) {
    Overlay::Parts parts;
    parts.size = size;
    parts.base = std::make_unique<BytesBase>(Bytes(size, std::byte{0x5a}));
    if (limits.memory > 0) parts.memory = must(MemoryTier::create(limits.memory));
    if (limits.disk > 0) parts.disk = disk_tier(::testing::TempDir(), limits.disk);
    return must(Overlay::open(std::move(parts)));
}

Bytes filled(std::uint64_t size, int value) {
    return Bytes(size, static_cast<std::byte>(value));
}

std::uint64_t memory_of(const Overlay& overlay) {
    struct stat info{};
    EXPECT_EQ(::fstat(overlay.descriptor(Kind::Memory), &info), 0);
    return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

TEST(Overlay, KeepsWhatIsWrittenOnce) {
    const auto overlay = overlay_with({.memory = 16 << 20});
    must(overlay->write(8 << 20, filled(1 << 20, 1), false));
    must(overlay->write(8 << 20, filled(1 << 20, 2), false)); // in place
    EXPECT_EQ(overlay->status().memory_used, 1u << 20);
    EXPECT_EQ(memory_of(*overlay), 1u << 20);
    EXPECT_EQ(overlay->status().dirty_blocks, 256u);
}

TEST(Overlay, ZerosTakeNoRoom) {
    const auto overlay = overlay_with({.memory = 16 << 20});
    must(overlay->write(0, filled(1 << 20, 0), false));
    EXPECT_EQ(overlay->status().memory_used, 0u);
    EXPECT_EQ(overlay->status().zero_blocks, 256u);
    must(overlay->write(0, filled(1 << 20, 3), false));
    EXPECT_EQ(overlay->status().zero_blocks, 0u);
    must(overlay->trim(0, 1 << 20, false));
    EXPECT_EQ(overlay->status().memory_used, 0u);
    EXPECT_EQ(memory_of(*overlay), 0u) << "trimmed blocks are given back to the host";
    EXPECT_EQ(read_all(*overlay)[5], std::byte{0}) << "not the base's byte";
}

TEST(Overlay, SpillsBeyondTheBudgetAndThenRefuses) {
    const auto overlay = overlay_with({.memory = 1 << 20, .disk = 2 << 20});
    must(overlay->write(0, filled(3 << 20, 4), false));
    EXPECT_EQ(overlay->status().memory_used, 1u << 20);
    EXPECT_EQ(overlay->status().disk_used, 2u << 20);
    const auto refused = overlay->write(16 << 20, filled(8192, 5), false);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ENOSPC);
    EXPECT_EQ(overlay->status().failed_writes, 1u);
    Bytes now(8192);
    must(overlay->read(16 << 20, now));
    EXPECT_EQ(now, filled(8192, 0x5a)) << "what was refused is the base's still";
    // What has its place can be written, and room that is given back can be used.
    must(overlay->write(0, filled(3 << 20, 6), false));
    must(overlay->trim(2 << 20, 1 << 20, false));
    must(overlay->write(16 << 20, filled(8192, 7), false));
}

TEST(Overlay, MemoryAloneRefusesBeyondItsBudget) {
    const auto overlay = overlay_with({.memory = 64 << 10});
    must(overlay->write(0, filled(64 << 10, 1), false));
    const auto refused = overlay->write(1 << 20, filled(4096, 1), false);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ENOSPC);
}

TEST(Overlay, GrowsNoFurtherWhileTheDiskIsShort) {
    const auto overlay = overlay_with({.memory = 0, .disk = 512 << 20});
    must(overlay->write(0, filled(4096, 1), false)); // one step of 64 MiB is reserved
    overlay->allow_growth(false);
    must(overlay->write(4096, filled(kDisk - 4096, 2), false));
    const auto point = must(overlay->take_point()); // now every rewrite needs another place
    const auto refused = overlay->write(0, filled(4096, 3), false);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ENOSPC);
    overlay->allow_growth(true);
    must(overlay->write(0, filled(4096, 3), false));
}

TEST(Overlay, RangesBeyondTheEndAreRefused) {
    const auto overlay = overlay_with({.memory = 1 << 20});
    Bytes data(4096);
    for (const std::uint64_t offset : {kDisk - 4095, kDisk + 1, ~std::uint64_t{0} - 10}) {
        EXPECT_EQ(overlay->read(offset, data).error().code(), EINVAL);
        EXPECT_EQ(overlay->write(offset, data, false).error().code(), EINVAL);
        EXPECT_EQ(overlay->zero(offset, 4096, false).error().code(), EINVAL);
    }
}

TEST(Overlay, OnePointAtATimeAndItsRoomComesBack) {
    const auto overlay = overlay_with({.memory = 8 << 20});
    must(overlay->write(0, filled(1 << 20, 1), false));
    {
        const auto point = must(overlay->take_point());
        EXPECT_EQ(overlay->take_point().error().code(), EBUSY);
        must(overlay->write(0, filled(1 << 20, 2), false));
        must(overlay->write(0, filled(1 << 20, 3), false)); // in place again
        must(overlay->trim(0, 4096, false));
        EXPECT_EQ(overlay->status().memory_used, (2u << 20) - 4096);
    }
    EXPECT_EQ(overlay->status().memory_used, (1u << 20) - 4096);
    EXPECT_EQ(memory_of(*overlay), (1u << 20) - 4096);
    EXPECT_TRUE(overlay->take_point());
}

// A guest with sectors of 512 bytes: neighbours in one block are written at once.
TEST(Overlay, WritersOfPartsOfABlockLoseNothing) {
    constexpr std::uint64_t kParts = 4;
    constexpr std::uint64_t kPart = kBlockSize / kParts;
    const auto overlay = overlay_with({.memory = 1 << 20, .disk = 64 << 20}, 2 << 20);
    {
        std::vector<std::jthread> writers;
        for (std::uint64_t w = 0; w < kParts; ++w)
            writers.emplace_back([&, w] {
                for (std::uint64_t block = 0; block < (2 << 20) / kBlockSize; ++block)
                    must(overlay->write(
                        block * kBlockSize + w * kPart, filled(kPart, static_cast<int>(w + 1)),
                        false
                    ));
            });
    }
    const auto disk = read_all(*overlay);
    for (std::uint64_t at = 0; at < disk.size(); at += kPart)
        ASSERT_EQ(disk[at], static_cast<std::byte>(at / kPart % kParts + 1)) << at;
}

// Each writer counts upwards over its blocks: a point that is one moment holds, of each writer, the
// last counts up to some count and nothing of what came later.
TEST(Overlay, APointIsOneMomentOfAllWriters) {
    constexpr std::uint64_t kBlocks = 64;
    constexpr std::uint64_t kWriters = 3;
    const auto overlay = overlay_with({.memory = 640 << 10, .disk = 64 << 20}, 2 << 20);
    std::vector<std::jthread> writers;
    for (std::uint64_t w = 0; w < kWriters; ++w)
        writers.emplace_back([&, w](const std::stop_token& stop) {
            Bytes block(kBlockSize);
            for (std::uint64_t count = 1; !stop.stop_requested(); ++count) {
                std::memcpy(block.data(), &count, sizeof count);
                must(overlay->write((w * 100 + count % kBlocks) * kBlockSize, block, false));
            }
        });
    std::uint64_t seen = 0;
    for (int i = 0; i < 200; ++i) {
        std::this_thread::yield();
        const auto point = must(overlay->take_point());
        const auto disk = read_point(*overlay, point);
        for (std::uint64_t w = 0; w < kWriters; ++w) {
            std::array<std::uint64_t, kBlocks> counts{};
            for (std::uint64_t b = 0; b < kBlocks; ++b)
                std::memcpy(&counts[b], disk.data() + (w * 100 + b) * kBlockSize, 8);
            for (auto& count : counts)
                if (count == 0x5a5a'5a5a'5a5a'5a5a) count = 0; // the base's
            const auto last = *std::ranges::max_element(counts);
            seen += last;
            for (std::uint64_t b = 0; b < kBlocks; ++b) {
                // The highest count up to the last one that belongs to this block.
                const auto due = last >= (last + kBlocks - b) % kBlocks
                                     ? last - (last + kBlocks - b) % kBlocks
                                     : 0;
                ASSERT_EQ(counts[b], due) << "writer " << w << " block " << b;
            }
        }
    }
    EXPECT_GT(seen, 0u);
}

} // namespace
} // namespace thaw::rootfs::test
