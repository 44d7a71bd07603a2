// SPDX-License-Identifier: MIT
#include "image/map_reader.hpp"

#include "core/file.hpp"

#include <algorithm>
#include <span>

namespace thaw::image {

Result<MapReader> MapReader::open(int fd, const ImageId& expected, std::uint64_t page_count) {
    MapHeader header;
    THAW_CHECK(pread_exact(fd, std::as_writable_bytes(std::span(&header, 1)), 0));
    if (header.magic != kMapMagic) return fail(EBADMSG, "memory.map: not a memory map");
    if (header.version != kMapVersion)
        return fail(EPROTONOSUPPORT, "memory.map: version {} is unknown", header.version);
    if (header.id != expected) return fail(ESTALE, "memory.map belongs to another image");
    const std::uint64_t chunks = (page_count + kPagesPerChunk - 1) / kPagesPerChunk;
    if (header.page_size != kMapPageSize || header.page_count != page_count ||
        header.chunk_count != chunks || header.run_count > page_count)
        return fail(EBADMSG, "memory.map does not fit the image");

    MapReader reader;
    reader.fd_ = fd;
    reader.reader_ = NowaitRead(fd);
    reader.checksum_ = header.checksum;
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
    if (map_checksum(header, reader.chunk_hashes_, reader.zero_runs_) != checksum)
        return fail(EBADMSG, "memory.map is damaged");
    return reader;
}

MapReader::ListPlace MapReader::list_of_page(std::uint64_t page) const {
    const std::uint64_t chunk = page / kPagesPerChunk;
    const std::uint64_t first = chunk * kPagesPerChunk;
    return {
        .chunk = chunk,
        .offset = sizeof(MapHeader) + first * sizeof(std::uint64_t),
        .size = std::min(kPagesPerChunk, page_count_ - first) * sizeof(std::uint64_t),
    };
}

MapReader::CachedList& MapReader::slot_of(std::uint64_t chunk) {
    auto& slot = cache_[chunk % kCacheLists];
    if (!slot) slot = std::make_unique<CachedList>();
    return *slot;
}

Result<> MapReader::check_list(const ListPlace& place, std::span<const std::byte> bytes) const {
    if (hash_bytes(bytes) == chunk_hashes_[place.chunk]) return {};
    return fail(EBADMSG, "memory.map: the page hashes of chunk {} are damaged", place.chunk);
}

Result<> MapReader::add_list(const ListPlace& place, std::span<const std::byte> bytes) {
    THAW_CHECK(check_list(place, bytes));
    CachedList& slot = slot_of(place.chunk);
    std::ranges::copy(bytes, std::as_writable_bytes(std::span(slot.hashes)).begin());
    slot.chunk = place.chunk;
    return {};
}

Result<> MapReader::read_list(const ListPlace& place) {
    CachedList& slot = slot_of(place.chunk);
    slot.chunk = UINT64_MAX; // stays so when what is read turns out bad
    const auto list = std::as_writable_bytes(std::span(slot.hashes)).first(place.size);
    THAW_TRY(const bool here, reader_.read(fd_, list, place.offset));
    if (!here) return fail(EAGAIN, "memory.map: not in memory");
    return add_list(place, list);
}

void MapReader::prefetch(std::uint64_t page) const {
    const CachedList* slot = cache_[page / kPagesPerChunk % kCacheLists].get();
    if (slot != nullptr) __builtin_prefetch(&slot->hashes[page % kPagesPerChunk]);
}

Result<std::uint64_t> MapReader::page_hash(std::uint64_t page) {
    THAW_INVARIANT(page < page_count_);
    const CachedList* slot = cache_[page / kPagesPerChunk % kCacheLists].get();
    if (slot == nullptr || slot->chunk != page / kPagesPerChunk) {
        THAW_CHECK(read_list(list_of_page(page)));
        slot = cache_[page / kPagesPerChunk % kCacheLists].get();
    }
    return slot->hashes[page % kPagesPerChunk];
}

std::uint64_t MapReader::run_length(std::uint64_t page, std::uint64_t limit) const {
    const auto after = std::ranges::upper_bound(zero_runs_, page, {}, &ZeroRun::first_page);
    std::uint64_t end = after == zero_runs_.end() ? page_count_ : after->first_page;
    if (after != zero_runs_.begin()) {
        const ZeroRun& run = *std::prev(after);
        if (page - run.first_page < run.page_count) end = run.first_page + run.page_count;
    }
    return std::min(end - page, limit);
}

bool MapReader::is_zero(std::uint64_t first, std::uint64_t count) const {
    const auto after = std::ranges::upper_bound(zero_runs_, first, {}, &ZeroRun::first_page);
    if (after == zero_runs_.begin()) return false;
    const ZeroRun& run = *std::prev(after);
    const std::uint64_t within = first - run.first_page;
    return within < run.page_count && count <= run.page_count - within;
}

} // namespace thaw::image
