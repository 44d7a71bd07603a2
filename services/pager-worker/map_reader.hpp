// SPDX-License-Identifier: MIT
#pragma once

// memory.map for a process that must stay small and must never touch a mapping of a file: header,
// chunk hashes and zero runs are held, the page hashes of a chunk (8 KiB per 4 MiB) are read on
// first use, checked against the chunk's hash and kept in a small cache.

#include "core/error.hpp"
#include "image/memory_map.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace thaw::worker {

class MapReader {
public:
    // `fd` stays the caller's and is read for as long as this lives. EBADMSG for damage or when the
    // map is not one of `page_count` pages, ESTALE when it belongs to another image.
    static Result<MapReader> open(int fd, const image::ImageId& expected, std::uint64_t page_count);

    // `page` < the page count. EBADMSG when the list of its chunk is damaged, EIO when it cannot be
    // read.
    Result<std::uint64_t> page_hash(std::uint64_t page);
    // True when all of [first, first + count) is zero in the image.
    bool is_zero(std::uint64_t first, std::uint64_t count) const;

private:
    struct CachedList {
        std::uint64_t chunk = 0;
        std::array<std::uint64_t, image::kPagesPerChunk> hashes;
    };
    static constexpr std::size_t kCacheLists = 64; // covers 256 MiB of guest memory in 512 KiB

    MapReader() = default;
    Result<const CachedList*> list_of(std::uint64_t chunk);

    int fd_ = -1;
    std::uint64_t page_count_ = 0;
    std::vector<std::uint64_t> chunk_hashes_;
    std::vector<image::ZeroRun> zero_runs_;
    std::array<std::unique_ptr<CachedList>, kCacheLists> cache_;
};

} // namespace thaw::worker
