// SPDX-License-Identifier: MIT
#pragma once

// memory.map for a process that must stay small and must never touch a mapping of a file: header,
// chunk hashes and zero runs are held, the page hashes of a chunk (8 KiB per 4 MiB) are read on
// first use, checked against the chunk's hash and kept in a small cache.

#include "core/error.hpp"
#include "image/memory_map.hpp"
#include "image/nowait_read.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace thaw::image {

class MapReader {
public:
    // `fd` stays the caller's and is read for as long as this lives. EBADMSG for damage or when the
    // map is not one of `page_count` pages, ESTALE when it belongs to another image.
    static Result<MapReader> open(int fd, const ImageId& expected, std::uint64_t page_count);

    // Where in the file the list of hashes of a chunk stands.
    struct ListPlace {
        std::uint64_t chunk = 0;
        std::uint64_t offset = 0;
        std::size_t size = 0; // at most kLargestList
    };
    static constexpr std::size_t kLargestList = kPagesPerChunk * sizeof(std::uint64_t);

    // `page` < the page count. EAGAIN when its list must be read from a slow source first: read
    // list_of_page(), hand it to add_list(). EBADMSG when the list of its chunk is damaged, EIO
    // when it cannot be read.
    Result<std::uint64_t> page_hash(std::uint64_t page);
    // Asks the CPU for what page_hash() will look at: a table this large is rarely in its caches.
    void prefetch(std::uint64_t page) const;
    ListPlace list_of_page(std::uint64_t page) const;
    // EBADMSG when the bytes are not those that were sealed.
    Result<> check_list(const ListPlace& place, std::span<const std::byte> bytes) const;
    Result<> add_list(const ListPlace& place, std::span<const std::byte> bytes);
    int fd() const { return fd_; }
    std::uint64_t checksum() const { return checksum_; }
    // True when all of [first, first + count) is zero in the image.
    bool is_zero(std::uint64_t first, std::uint64_t count) const;
    // Pages from `page` on, at most `limit`, that are all zero or all data, as `page` is.
    std::uint64_t run_length(std::uint64_t page, std::uint64_t limit) const;

private:
    struct CachedList {
        std::uint64_t chunk = UINT64_MAX; // none
        std::array<std::uint64_t, kPagesPerChunk> hashes;
    };
    static constexpr std::size_t kCacheLists = 64; // covers 256 MiB of guest memory in 512 KiB

    MapReader() = default;
    CachedList& slot_of(std::uint64_t chunk);
    Result<> read_list(const ListPlace& place);

    int fd_ = -1;
    NowaitRead reader_;
    std::uint64_t checksum_ = 0;
    std::uint64_t page_count_ = 0;
    std::vector<std::uint64_t> chunk_hashes_;
    std::vector<ZeroRun> zero_runs_;
    std::array<std::unique_ptr<CachedList>, kCacheLists> cache_;
};

} // namespace thaw::image
