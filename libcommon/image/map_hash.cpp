// SPDX-License-Identifier: MIT

// The checksums of pages and of the map itself; apart from the rest because the pager's workers
// need nothing else of it.

#include "image/checksum.hpp"
#include "image/memory_map.hpp"

#include <xxhash.h>

#include <cstring>

// The widest vectors that the CPU has; exported where libxxhash was built to choose (Debian's is).
// NOLINTNEXTLINE(readability-identifier-naming): its name
extern "C" [[gnu::weak]] XXH64_hash_t XXH3_64bits_dispatch(const void* data, std::size_t size);

namespace thaw::image {

namespace {

using Vector = std::uint64_t __attribute__((vector_size(32)));

} // namespace

std::uint64_t map_checksum(
    MapHeader header, std::span<const std::uint64_t> chunk_hashes, std::span<const ZeroRun> runs
) {
    header.checksum = 0;
    return checksum_of_parts(
        {std::as_bytes(std::span(&header, 1)), std::as_bytes(chunk_hashes), std::as_bytes(runs)}
    );
}

std::uint64_t hash_bytes(std::span<const std::byte> bytes) {
    if (XXH3_64bits_dispatch != nullptr) return XXH3_64bits_dispatch(bytes.data(), bytes.size());
    return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t hash_page(const std::byte* page) {
    return hash_bytes({page, kMapPageSize});
}

bool is_zero_page(const std::byte* page) {
    // Data pages nearly always show it in their first bytes, zero pages need the whole way.
    constexpr std::size_t kStep = 8 * sizeof(Vector);
    for (std::size_t at = 0; at < kMapPageSize; at += kStep) {
        Vector any{};
        for (std::size_t i = 0; i < kStep; i += sizeof(Vector)) {
            Vector part;
            std::memcpy(&part, page + at + i, sizeof part);
            any |= part;
        }
        if ((any[0] | any[1] | any[2] | any[3]) != 0) return false;
    }
    return true;
}

} // namespace thaw::image
