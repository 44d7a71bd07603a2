// SPDX-License-Identifier: MIT
#pragma once

// memory.map: per 4 KiB page of the memory file its XXH3-64, one XXH3-64 over each 4 MiB chunk's
// list of them, and which runs of pages are zero. Made once when the image is sealed; never
// inferred from file holes later (sparse copies lie).
//
// Layout, little-endian: MapHeader (64 bytes), page_count page hashes, chunk_count chunk hashes,
// run_count ZeroRun. header.checksum covers the header (with checksum 0), chunk hashes and runs.

#include "core/fd.hpp"
#include "image/manifest.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace thaw::image {

inline constexpr std::uint64_t kMapPageSize = 4096;
inline constexpr std::uint64_t kMapChunkSize = 4 << 20;
inline constexpr std::uint64_t kPagesPerChunk = kMapChunkSize / kMapPageSize;

struct ZeroRun {
    std::uint64_t first_page = 0;
    std::uint64_t page_count = 0;
};

// The checksum of one page. `page` is kMapPageSize bytes.
std::uint64_t hash_page(const std::byte* page);
bool is_zero_page(const std::byte* page);

// A verified, read-only mapping of a memory.map file. Thread-safe once loaded. The file is mapped
// privately after its header, chunk hashes and runs were checked; a page hash is checked against
// its chunk's hash on first use (chunk_is_valid()).
class MemoryMap {
public:
    // EBADMSG for damage, EPROTONOSUPPORT for an unknown version, ESTALE when `expected` is not the
    // id inside.
    static Result<MemoryMap> load(int fd, const ImageId& expected);
    MemoryMap(MemoryMap&&) noexcept;
    MemoryMap& operator=(MemoryMap&&) noexcept;
    ~MemoryMap();

    std::uint64_t page_count() const { return page_count_; }
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
    std::vector<std::byte> bytes_;
    std::uint64_t page_count_ = 0;
    std::span<const std::uint64_t> page_hashes_;
    std::span<const std::uint64_t> chunk_hashes_;
    std::span<const ZeroRun> zero_runs_;
};

// Reads the memory file once and builds the map's bytes. progress(done, total) in bytes; returning
// false cancels (ECANCELED). EINVAL when the size is not a multiple of 4 KiB or is 0.
Result<std::vector<std::byte>> build_memory_map(
    int memory_fd, const ImageId& id,
    const std::function<bool(std::uint64_t, std::uint64_t)>& progress
);

} // namespace thaw::image
