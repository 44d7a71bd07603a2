// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "delta/compare.hpp"
#include "fixture.hpp"

#include <gtest/gtest.h>

namespace thaw::delta::test {
namespace {

class Compare : public ::testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(save(model_, folder_ / "d"));
        base_ = open_read(write_file(folder_ / "base", model_.base));
        file_.emplace(DeltaFile::open(folder_ / "d").value());
    }
    Side plain(const Bytes& bytes) {
        const std::string path = folder_ / std::to_string(plain_.size());
        plain_.push_back(open_read(write_file(path, bytes)));
        return {.plain = plain_.back().get(), .size = bytes.size()};
    }
    Side difference(bool with_base) const {
        return {.difference = &*file_, .base = with_base ? base_.get() : -1};
    }
    static Comparison compared(const Side& a, const Side& b) {
        auto result = compare(a, b, nullptr);
        EXPECT_TRUE(result) << result.error().message();
        auto turned = compare(b, a, nullptr);
        EXPECT_TRUE(turned && turned->same == result->same && turned->first == result->first);
        return std::move(*result);
    }
    thaw::test::TemporaryDirectory folder_;
    std::mt19937_64 random_{9};
    Model model_{{.base_size = 700 * 4096, .size = 900 * 4096 + 512, .run = 40}, random_};
    Fd base_;
    std::optional<DeltaFile> file_;
    std::vector<Fd> plain_;
};

TEST_F(Compare, ADifferenceOverItsBaseIsTheDisk) {
    EXPECT_TRUE(compared(difference(true), plain(model_.disk)).same);
    EXPECT_TRUE(compared(difference(true), difference(true)).same);
    EXPECT_TRUE(compared(difference(false), difference(false)).same);
}

TEST_F(Compare, EverySingleChangedByteIsFound) {
    for (int round = 0; round < 40; ++round) {
        Bytes disk = model_.disk;
        const std::size_t at = round == 0   ? 0
                               : round == 1 ? disk.size() - 1
                                            : random_() % disk.size();
        disk[at] ^= std::byte{1};
        const auto result = compared(difference(true), plain(disk));
        EXPECT_FALSE(result.same);
        EXPECT_EQ(result.first, at / 512 * 512);
        EXPECT_EQ(result.differing_bytes, 512U);
    }
}

TEST_F(Compare, SizesMatter) {
    Bytes disk = model_.disk;
    disk.resize(disk.size() - 512);
    const auto result = compared(difference(true), plain(disk));
    EXPECT_FALSE(result.same);
    EXPECT_NE(result.reason.find("sizes differ"), std::string::npos);
}

TEST_F(Compare, DifferencesWithoutTheirBases) {
    // The same changes over another base.
    Model moved = std::move(model_);
    moved.base[0] ^= std::byte{1};
    ASSERT_TRUE(save(moved, folder_ / "moved"));
    const auto other = DeltaFile::open(folder_ / "moved").value();
    const auto bases = compared(difference(false), {.difference = &other});
    EXPECT_FALSE(bases.same);
    EXPECT_EQ(bases.reason, "they lie over different bases");
    moved.base[0] ^= std::byte{1};
    // One run less.
    const SourceRun gone = moved.sources.front();
    moved.sources.erase(moved.sources.begin());
    ASSERT_TRUE(save(moved, folder_ / "fewer"));
    const auto fewer = DeltaFile::open(folder_ / "fewer").value();
    const auto runs = compared(difference(false), {.difference = &fewer});
    EXPECT_FALSE(runs.same);
    EXPECT_EQ(runs.first, gone.first_block * 4096);
    EXPECT_EQ(runs.differing_bytes, std::uint64_t{gone.count} * 4096);
    const auto unknown = compare(difference(false), plain(moved.disk), nullptr);
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().code(), EINVAL);
}

} // namespace
} // namespace thaw::delta::test
