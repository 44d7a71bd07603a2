// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "fixture.hpp"
#include "image/checksum.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace thaw::delta::test {
namespace {

Result<> read_all(std::span<const std::byte> bytes) {
    Fd file(::memfd_create("d", MFD_CLOEXEC));
    EXPECT_TRUE(write_all(file.get(), bytes));
    THAW_TRY(const auto loaded, DeltaFile::load(std::move(file)));
    return loaded.verify(nullptr);
}

class Format : public ::testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(save(model_, folder_ / "d"));
        whole_ = contents(folder_ / "d");
        std::memcpy(&header_, whole_.data(), sizeof header_);
    }
    // The file with another header, whose checksum is right.
    Bytes with(const DeltaHeader& header) const {
        DeltaHeader mended = header;
        mended.header_checksum = 0;
        mended.header_checksum = image::checksum_of_parts({std::as_bytes(std::span(&mended, 1))});
        Bytes bytes = whole_;
        std::memcpy(bytes.data(), &mended, sizeof mended);
        return bytes;
    }
    thaw::test::TemporaryDirectory folder_;
    std::mt19937_64 random_{6};
    Model model_{{}, random_};
    Bytes whole_;
    DeltaHeader header_;
};

TEST_F(Format, EveryFlippedBitIsNoticed) {
    ASSERT_TRUE(read_all(whole_));
    for (std::size_t at = 0; at < whole_.size(); at += at < 4096 ? 1 : 97) {
        // Padding between lists and data belongs to nothing.
        if (at >= sizeof header_ + meta_size(header_) && at < header_.data_offset) continue;
        Bytes bytes = whole_;
        bytes[at] ^= static_cast<std::byte>(1U << random_() % 8);
        const auto result = read_all(bytes);
        ASSERT_FALSE(result) << "byte " << at;
        EXPECT_TRUE(result.error().code() == EBADMSG || result.error().code() == EPROTONOSUPPORT);
    }
}

TEST_F(Format, EveryOtherLengthIsNoticed) {
    for (std::size_t size = 0; size < whole_.size(); size += size < 600 ? 1 : 511)
        EXPECT_FALSE(read_all(std::span(whole_).first(size))) << size;
    Bytes longer = whole_;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(read_all(longer));
}

TEST_F(Format, HeadersThatLieAreRefused) {
    ASSERT_TRUE(read_all(with(header_)));
    const auto expect_refused = [&](auto change, int code = EBADMSG) {
        DeltaHeader header = header_;
        change(header);
        const auto result = read_all(with(header));
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code(), code) << result.error().message();
    };
    expect_refused([](auto& h) { h.version = 2; }, EPROTONOSUPPORT);
    expect_refused([](auto& h) { h.kind = 3; });
    expect_refused([](auto& h) { h.size = 0; });
    expect_refused([](auto& h) { h.size = UINT64_MAX; });
    expect_refused([](auto& h) { h.size = h.data_bytes; }); // runs beyond the end
    expect_refused([](auto& h) { h.block_size = 8192; });
    expect_refused([](auto& h) { h.check_bytes = 4096; });
    expect_refused([](auto& h) { h.check_bytes = 0; });
    expect_refused([](auto& h) { h.base_form = 9; });
    expect_refused([](auto& h) { h.base_size = UINT64_MAX; });
    expect_refused([](auto& h) { h.run_count = UINT64_MAX; });
    expect_refused([](auto& h) { --h.run_count; });
    expect_refused([](auto& h) { h.run_count = kMaxRuns; }); // never allocated: not that long
    expect_refused([](auto& h) { ++h.data_blocks; });
    expect_refused([](auto& h) { ++h.zero_blocks; });
    expect_refused([](auto& h) { h.data_offset += 4096; });
    expect_refused([](auto& h) { h.data_bytes += 4096; });
    expect_refused([](auto& h) { h.data_bytes = UINT64_MAX - 100; });
    expect_refused([](auto& h) { ++h.check_count; });
    expect_refused([](auto& h) { h.notes_bytes = UINT64_MAX; });
    expect_refused([](auto& h) { h.state_bytes = UINT64_MAX; });
    expect_refused([](auto& h) { h.reserved = 1; });
    expect_refused([](auto& h) { h.unused[5] = 1; });
}

TEST_F(Format, OtherFilesAreNotTaken) {
    const Fd text(::memfd_create("d", MFD_CLOEXEC));
    EXPECT_FALSE(DeltaFile::is_one(text.get()).value());
    ASSERT_TRUE(write_all(text.get(), std::string(5000, 'x')));
    EXPECT_FALSE(DeltaFile::is_one(text.get()).value());
    EXPECT_TRUE(DeltaFile::is_one(open_read(folder_ / "d").get()).value());
    EXPECT_EQ(DeltaFile::open("/dev/zero").error().code(), EBADMSG);
    EXPECT_EQ(DeltaFile::open(folder_.path()).error().code(), EBADMSG);
    EXPECT_EQ(DeltaFile::open(folder_ / "none").error().code(), ENOENT);
}

} // namespace
} // namespace thaw::delta::test
