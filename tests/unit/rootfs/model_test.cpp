// SPDX-License-Identifier: MIT
// Random operations on an overlay and on plain memory: both must look the same after each.
#include "overlay_fixture.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <optional>

namespace thaw::rootfs::test {
namespace {

constexpr std::uint64_t kModelDisk = (3 << 20) + 512; // its last block is a part of one
constexpr int kOperations = 150;

enum class Tiers { MemoryOnly, DiskOnly, Both, Durable };

class Trace {
public:
    Trace(std::uint64_t seed, Tiers tiers)
        : random_(seed), model_(base_bytes(random_, kModelDisk - 300'000)) {
        Overlay::Parts parts;
        parts.size = kModelDisk;
        parts.base = std::make_unique<BytesBase>(model_);
        model_.resize(kModelDisk);
        const auto directory = ::testing::TempDir();
        if (tiers == Tiers::MemoryOnly) parts.memory = must(MemoryTier::create(2 * kModelDisk));
        // Small enough that the rest has to go to the disk.
        if (tiers == Tiers::Both) parts.memory = must(MemoryTier::create(1 << 20));
        if (tiers != Tiers::MemoryOnly) parts.disk = disk_tier(directory, 0);
        if (tiers == Tiers::Durable)
            for (auto& file : parts.journal) {
                Fd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
                file = std::make_unique<CachedFile>(std::move(fd));
            }
        overlay_ = must(Overlay::open(std::move(parts)));
    }

    void run() {
        for (int i = 0; i < kOperations && !::testing::Test::HasFailure(); ++i) {
            step();
            if (i % 30 == 29) {
                ASSERT_EQ(read_all(*overlay_), model_) << "operation " << i;
            }
        }
        if (point_) end_point();
    }
    OverlayStatus status() const { return overlay_->status(); }

private:
    struct Range {
        std::uint64_t offset;
        std::uint64_t length;
    };
    Range range() {
        const std::uint64_t longest = random_() % 8 == 0 ? 700'000 : 20'000;
        std::uint64_t offset = random_() % kModelDisk;
        std::uint64_t length = 1 + random_() % std::min(longest, kModelDisk - offset);
        if (random_() % 2 == 0) { // blocks, as guests do
            offset -= offset % kBlockSize;
            length = std::min(kModelDisk - offset, blocks_of(length) * kBlockSize);
        }
        return {offset, length};
    }

    void step() {
        const auto [offset, length] = range();
        const auto begin = model_.begin() + static_cast<std::ptrdiff_t>(offset);
        switch (random_() % 16) {
        case 0:
        case 1:
            must(overlay_->zero(offset, length, random_() % 64 == 0));
            std::fill_n(begin, length, std::byte{0});
            return;
        case 2:
        case 3:
            return trim(offset, length);
        case 4:
            if (random_() % 4 == 0) must(overlay_->flush());
            return;
        case 5:
            return point_ ? end_point() : begin_point();
        case 6:
            return check_extents(offset, length);
        case 7:
        case 8:
        case 9: {
            Bytes read(length);
            must(overlay_->read(offset, read));
            ASSERT_TRUE(std::equal(read.begin(), read.end(), begin));
            return;
        }
        default: {
            auto data = random_bytes(random_, length);
            if (random_() % 4 == 0) // a piece of zeros in it
                std::fill_n(
                    data.begin() + static_cast<std::ptrdiff_t>(length / 3), length / 2, std::byte{0}
                );
            must(overlay_->write(offset, data, random_() % 64 == 0));
            std::ranges::copy(data, begin);
        }
        }
    }

    void trim(std::uint64_t offset, std::uint64_t length) {
        must(overlay_->trim(offset, length, false));
        const std::uint64_t first = blocks_of(offset) * kBlockSize;
        const std::uint64_t end = offset + length == kModelDisk
                                      ? kModelDisk
                                      : (offset + length) / kBlockSize * kBlockSize;
        if (first < end)
            std::fill(
                model_.begin() + static_cast<std::ptrdiff_t>(first),
                model_.begin() + static_cast<std::ptrdiff_t>(end), std::byte{0}
            );
    }

    void check_extents(std::uint64_t offset, std::uint64_t length) {
        std::uint64_t next = offset;
        std::optional<bool> before;
        overlay_->extents(offset, length, [&](const Overlay::Extent& extent) {
            EXPECT_EQ(extent.offset, next);
            EXPECT_NE(before, extent.zero) << "neighbours of one kind";
            before = extent.zero;
            next += extent.length;
            if (extent.zero) {
                EXPECT_TRUE(all_zero(std::span(model_).subspan(extent.offset, extent.length)));
            }
            return true;
        });
        EXPECT_EQ(next, offset + length);
    }

    void begin_point() {
        point_.emplace(must(overlay_->take_point()));
        at_point_ = model_;
    }
    void end_point() {
        EXPECT_EQ(read_point(*overlay_, *point_), at_point_);
        point_.reset();
    }

    std::mt19937_64 random_;
    Bytes model_;
    std::unique_ptr<Overlay> overlay_;
    std::optional<Point> point_;
    Bytes at_point_;
};

class Model : public ::testing::TestWithParam<Tiers> {};

TEST_P(Model, LooksLikeADisk) {
    std::uint64_t spilled = 0;
    std::uint64_t zeros = 0;
    std::uint64_t points = 0;
    for (std::uint64_t seed = 0; seed < 100 && !HasFailure(); ++seed) {
        SCOPED_TRACE(seed);
        Trace trace(seed, GetParam());
        trace.run();
        spilled += trace.status().spilled;
        zeros += trace.status().zero_blocks;
        points += trace.status().points;
        EXPECT_EQ(trace.status().failed_writes, 0u);
    }
    // What was to be tried was tried.
    EXPECT_EQ(spilled > 0, GetParam() != Tiers::MemoryOnly);
    EXPECT_GT(zeros, 1000u);
    EXPECT_GT(points, 300u);
}

std::string name_of(const ::testing::TestParamInfo<Tiers>& tested) {
    constexpr std::array<const char*, 4> kNames{"MemoryOnly", "DiskOnly", "Both", "Durable"};
    return kNames.at(static_cast<std::size_t>(tested.param));
}
INSTANTIATE_TEST_SUITE_P(
    On, Model, ::testing::Values(Tiers::MemoryOnly, Tiers::DiskOnly, Tiers::Both, Tiers::Durable),
    name_of
);

} // namespace
} // namespace thaw::rootfs::test
