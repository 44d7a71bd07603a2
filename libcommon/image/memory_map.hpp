// SPDX-License-Identifier: MIT
#pragma once

// memory.map: per 4 KiB page of the memory file its XXH3-64, one XXH3-64 over each 4 MiB chunk's
// list of them, and which runs of pages are zero. Made once when the image is sealed; never
// inferred from file holes later (sparse copies lie). rootfs.map is the same over the root file
// system, with rootfs_id() inside.
//
// Layout, little-endian: MapHeader (64 bytes), page_count page hashes, chunk_count chunk hashes,
// run_count ZeroRun. header.checksum covers the header (with checksum 0), chunk hashes and runs.

#include "core/fd.hpp"
#include "image/digest.hpp"
#include "image/manifest.hpp"
#include "image/page_bitmap.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace thaw::image {

inline constexpr std::uint64_t kMapPageSize = 4096;
inline constexpr std::uint64_t kMapChunkSize = 4 << 20;
inline constexpr std::uint64_t kPagesPerChunk = kMapChunkSize / kMapPageSize;
inline constexpr std::uint32_t kMapVersion = 1;
inline constexpr std::array<char, 8> kMapMagic{'T', 'H', 'A', 'W', 'M', 'A', 'P', '\n'};

struct MapHeader {
    std::array<char, 8> magic = kMapMagic;
    std::uint32_t version = kMapVersion;
    std::uint32_t page_size = kMapPageSize;
    ImageId id{};
    std::uint64_t page_count = 0;
    std::uint64_t chunk_count = 0;
    std::uint64_t run_count = 0;
    std::uint64_t checksum = 0;
};
static_assert(sizeof(MapHeader) == 64);

struct ZeroRun {
    std::uint64_t first_page = 0;
    std::uint64_t page_count = 0;
};

// XXH3-64, of as many bytes as there are; fast ones where the CPU has them.
std::uint64_t hash_bytes(std::span<const std::byte> bytes);
// The checksum of one page. `page` is kMapPageSize bytes.
std::uint64_t hash_page(const std::byte* page);
bool is_zero_page(const std::byte* page);

// A memory.map file, read into private memory: a file that shrinks or a bad sector later cannot
// hurt. Thread-safe once loaded. load() checks header, chunk hashes and runs; the page hashes of a
// chunk are the caller's to check before their first use (chunk_is_valid()).
class MemoryMap {
public:
    // EBADMSG for damage, EPROTONOSUPPORT for an unknown version, ESTALE when `expected` is not the
    // id inside. `name` is what messages call the file.
    static Result<MemoryMap>
    load(int fd, const ImageId& expected, std::string_view name = kMemoryMapFile);
    MemoryMap(MemoryMap&&) noexcept;
    MemoryMap& operator=(MemoryMap&&) noexcept;
    MemoryMap(const MemoryMap&) = delete;
    MemoryMap& operator=(const MemoryMap&) = delete;
    ~MemoryMap();

    std::uint64_t checksum() const { return checksum_; } // the header's
    std::uint64_t page_count() const { return page_hashes_.size(); }
    std::uint64_t chunk_count() const { return chunk_hashes_.size(); }
    // Pages at or beyond page_count() break the contract and end the process.
    std::uint64_t page_hash(std::uint64_t page) const;
    // Whether the page hashes of the chunk match the chunk's hash.
    bool chunk_is_valid(std::uint64_t chunk) const;
    std::span<const ZeroRun> zero_runs() const { return zero_runs_; }
    // True when `page` lies in a zero run. O(log runs).
    bool is_zero(std::uint64_t page) const;
    // Pages from `page` on that are all zero (or all data): length of the run, at most `limit`.
    std::uint64_t run_length(std::uint64_t page, std::uint64_t limit) const;

private:
    MemoryMap() = default;
    static Result<MemoryMap> read(int fd, const ImageId& expected);
    std::uint64_t checksum_ = 0;
    std::vector<std::byte> bytes_; // the spans point into it
    std::span<const std::uint64_t> page_hashes_;
    std::span<const std::uint64_t> chunk_hashes_;
    std::span<const ZeroRun> zero_runs_;
};

// header.checksum of a map; `header` is taken with its checksum as 0.
std::uint64_t map_checksum(
    MapHeader header, std::span<const std::uint64_t> chunk_hashes, std::span<const ZeroRun> runs
);

// Reads the memory file once and builds the map's bytes. progress(done, total) in bytes; returning
// false cancels (ECANCELED). EINVAL when the size is not a multiple of 4 KiB or is 0, EIO when the
// file shrinks meanwhile. All that was read goes to `digest` too, where one is given.
Result<std::vector<std::byte>> build_memory_map(
    int memory_fd, const ImageId& id,
    const std::function<bool(std::uint64_t, std::uint64_t)>& progress, Digest* digest = nullptr
);

// The map of an image that holds the pages of `present` itself and the others by its base, whose
// map is `base`: one over the whole memory, so that whoever reads a page needs no other. Reads
// those pages from `memory_fd` at their place in the memory and hands every run of them that is not
// zero to `keep`. EBADMSG when the base's map is damaged.
using KeepPages = std::function<Result<>(std::span<const std::byte>, std::uint64_t offset)>;
Result<std::vector<std::byte>> build_layer_map(
    int memory_fd, const ImageId& id, const MemoryMap& base, const PageBitmap& present,
    const KeepPages& keep, const std::function<bool(std::uint64_t, std::uint64_t)>& progress
);

} // namespace thaw::image
