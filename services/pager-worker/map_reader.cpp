// SPDX-License-Identifier: MIT
#include "map_reader.hpp"

#include "core/file.hpp"

#include <xxhash.h>

#include <algorithm>
#include <span>

namespace thaw::worker {

using image::kPagesPerChunk;

Result<MapReader>
MapReader::open(int fd, const image::ImageId& expected, std::uint64_t page_count) {
    image::MapHeader header;
    THAW_CHECK(pread_exact(fd, std::as_writable_bytes(std::span(&header, 1)), 0));
    if (header.magic != image::kMapMagic) return fail(EBADMSG, "memory.map: not a memory map");
    if (header.version != image::kMapVersion)
        return fail(EPROTONOSUPPORT, "memory.map: version {} is unknown", header.version);
    if (header.id != expected) return fail(ESTALE, "memory.map belongs to another image");
    const std::uint64_t chunks = (page_count + kPagesPerChunk - 1) / kPagesPerChunk;
    if (header.page_size != image::kMapPageSize || header.page_count != page_count ||
        header.chunk_count != chunks || header.run_count > page_count)
        return fail(EBADMSG, "memory.map does not fit the image");

    MapReader reader;
    reader.fd_ = fd;
    reader.page_count_ = page_count;
    reader.chunk_hashes_.resize(chunks);
    reader.zero_runs_.resize(header.run_count);
    const std::uint64_t lists_end = sizeof header + page_count * sizeof(std::uint64_t);
    const auto hashes = std::as_writable_bytes(std::span(reader.chunk_hashes_));
    THAW_CHECK(pread_exact(fd, hashes, lists_end));
    THAW_CHECK(pread_exact(
        fd, std::as_writable_bytes(std::span(reader.zero_runs_)), lists_end + hashes.size()
    ));
    const std::uint64_t checksum = header.checksum;
    if (image::map_checksum(header, reader.chunk_hashes_, reader.zero_runs_) != checksum)
        return fail(EBADMSG, "memory.map is damaged");
    return reader;
}

Result<const MapReader::CachedList*> MapReader::list_of(std::uint64_t chunk) {
    auto& slot = cache_[chunk % kCacheLists];
    if (slot && slot->chunk == chunk) return slot.get();
    if (!slot) slot = std::make_unique<CachedList>();
    slot->chunk = UINT64_MAX; // stays so when what is read turns out bad
    const std::uint64_t first = chunk * kPagesPerChunk;
    const auto list = std::span(slot->hashes).first(std::min(kPagesPerChunk, page_count_ - first));
    THAW_CHECK(pread_exact(
        fd_, std::as_writable_bytes(list), sizeof(image::MapHeader) + first * sizeof(std::uint64_t)
    ));
    if (XXH3_64bits(list.data(), list.size_bytes()) != chunk_hashes_[chunk])
        return fail(EBADMSG, "memory.map: the page hashes of chunk {} are damaged", chunk);
    slot->chunk = chunk;
    return slot.get();
}

Result<std::uint64_t> MapReader::page_hash(std::uint64_t page) {
    THAW_INVARIANT(page < page_count_);
    THAW_TRY(const CachedList* list, list_of(page / kPagesPerChunk));
    return list->hashes[page % kPagesPerChunk];
}

bool MapReader::is_zero(std::uint64_t first, std::uint64_t count) const {
    const auto after = std::ranges::upper_bound(zero_runs_, first, {}, &image::ZeroRun::first_page);
    if (after == zero_runs_.begin()) return false;
    const image::ZeroRun& run = *std::prev(after);
    const std::uint64_t within = first - run.first_page;
    return within < run.page_count && count <= run.page_count - within;
}

} // namespace thaw::worker
