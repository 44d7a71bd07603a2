// SPDX-License-Identifier: MIT
#pragma once

// A base that lies behind a URL, read through the pager's cache, which fetches and checks what is
// not there. Zeros are known from the map of checksums and never fetched.

#include "image/map_reader.hpp"
#include "overlay/base_image.hpp"
#include "overlay/chunk_link.hpp"

#include <array>
#include <atomic>

namespace thaw::rootfs {

// XXH3-128 over all of a base.
using ContentDigest = std::array<std::uint8_t, 16>;

class RemoteBase final : public BaseImage {
public:
    // As ChunkLink::connect(), and EBADMSG for a map that is none. `digest` is the manifest's.
    static Result<std::unique_ptr<RemoteBase>>
    connect(const std::string& socket, const ContentDigest& digest);

    std::uint64_t size() const override { return size_; }
    Result<> read(std::uint64_t offset, std::span<std::byte> out) override;
    Extent extent(std::uint64_t offset, std::uint64_t length) override;
    std::uint64_t tag() const override;
    Result<protocol::BaseIdentity> identity() const override;

private:
    RemoteBase(
        std::unique_ptr<ChunkLink> link, image::MapReader zeros, const ContentDigest& digest
    );
    Result<> read_piece(
        std::uint64_t offset, std::span<std::byte> out, ChunkLink::Clock::time_point deadline
    );

    std::unique_ptr<ChunkLink> link_;
    const image::MapReader zeros_; // runs of them only: no hash is ever asked for
    std::uint64_t size_;
    ContentDigest digest_;
    std::atomic<std::uint32_t> last_missed_{UINT32_MAX - 1};
};

} // namespace thaw::rootfs
