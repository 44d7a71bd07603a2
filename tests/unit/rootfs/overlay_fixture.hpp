// SPDX-License-Identifier: MIT
#pragma once

// Overlays over a base in memory, and the disk that they should look like.

#include "fakes/must.hpp"
#include "overlay/overlay.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace thaw::rootfs::test {

using Bytes = std::vector<std::byte>;

// A base of these bytes; every other 64 KiB of it may be called a hole where it is zero.
class BytesBase final : public BaseImage {
public:
    explicit BytesBase(Bytes bytes, std::uint64_t tag = 7) : bytes_(std::move(bytes)), tag_(tag) {}
    std::uint64_t size() const override { return bytes_.size(); }
    Result<> read(std::uint64_t offset, std::span<std::byte> out) override {
        if (offset + out.size() > bytes_.size()) return fail(EIO, "beyond the base");
        std::memcpy(out.data(), bytes_.data() + offset, out.size());
        return {};
    }
    Extent extent(std::uint64_t offset, std::uint64_t length) override {
        const auto piece = std::min<std::uint64_t>(length, 65536 - offset % 65536);
        return {.length = piece, .hole = all_zero(std::span(bytes_).subspan(offset, piece))};
    }
    std::uint64_t tag() const override { return tag_; }
    Result<protocol::BaseIdentity> identity() const override { return protocol::BaseIdentity{}; }

private:
    Bytes bytes_;
    std::uint64_t tag_;
};

inline Bytes random_bytes(std::mt19937_64& random, std::size_t size) {
    std::vector<std::uint64_t> words(size / 8 + 1);
    for (auto& word : words)
        word = random();
    const auto bytes = std::as_bytes(std::span(words)).first(size);
    return {bytes.begin(), bytes.end()};
}

// Data with a 64 KiB hole here and there.
inline Bytes base_bytes(std::mt19937_64& random, std::size_t size) {
    auto bytes = random_bytes(random, size);
    for (std::size_t at = 0; at < size; at += 65536)
        if (random() % 4 == 0)
            std::fill_n(
                bytes.begin() + static_cast<std::ptrdiff_t>(at),
                std::min<std::size_t>(65536, size - at), std::byte{0}
            );
    return bytes;
}

using fakes::must;

inline Bytes read_all(Overlay& overlay) {
    Bytes bytes(overlay.size());
    must(overlay.read(0, bytes));
    return bytes;
}

inline std::unique_ptr<DiskTier> disk_tier(const std::string& directory, std::uint64_t limit) {
    return std::make_unique<DiskTier>(must(DirectFile::temporary(directory)), limit);
}

// The disk of a point, read as a tool would: from the base and the files of the tiers.
inline Bytes read_point(Overlay& overlay, const Point& point) {
    Bytes bytes(blocks_of(overlay.size()) * kBlockSize);
    must(const_cast<BaseImage&>(overlay.base())
             .read(0, std::span(bytes).first(overlay.base().size())));
    const AlignedBuffer aligned(kBlockSize);
    for (const auto& run : point.runs()) {
        for (std::uint32_t i = 0; i < run.count; ++i) {
            auto* const target = bytes.data() + (run.block + i) * kBlockSize;
            if (run.location.kind == Kind::Zero) {
                std::memset(target, 0, kBlockSize);
                continue;
            }
            const auto n = ::pread(
                overlay.descriptor(run.location.kind), aligned.span().data(), kBlockSize,
                static_cast<off_t>(run.location.slot + i) * kBlockSize
            );
            EXPECT_EQ(n, kBlockSize);
            std::memcpy(target, aligned.span().data(), kBlockSize);
        }
    }
    bytes.resize(overlay.size());
    return bytes;
}

} // namespace thaw::rootfs::test
