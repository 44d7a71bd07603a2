// SPDX-License-Identifier: MIT

#include "image/memory_map.hpp"

#include "core/file.hpp"

#include <xxhash.h>

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace thaw::image {

// The file is little-endian and used in place.
static_assert(std::endian::native == std::endian::little);

namespace {

// 64 TiB of guest memory; keeps every sum below far from overflow.
constexpr std::uint64_t kMaxMapPages = std::uint64_t{1} << 34;

std::uint64_t chunks_of(std::uint64_t pages) {
    return (pages + kPagesPerChunk - 1) / kPagesPerChunk;
}

Result<> check_header(const MapHeader& header, const ImageId& expected, std::uint64_t file_size) {
    if (header.magic != kMapMagic) return fail(EBADMSG, "not a memory map");
    if (header.version != kMapVersion)
        return fail(EPROTONOSUPPORT, "version {} is unknown", header.version);
    if (header.page_size != kMapPageSize)
        return fail(EBADMSG, "page size {} is unknown", header.page_size);
    if (header.page_count == 0 || header.page_count > kMaxMapPages ||
        header.chunk_count != chunks_of(header.page_count) || header.run_count > header.page_count)
        return fail(EBADMSG, "damaged header");
    const std::uint64_t expected_size = sizeof(MapHeader) + header.page_count * 8 +
                                        header.chunk_count * 8 + header.run_count * sizeof(ZeroRun);
    if (file_size != expected_size)
        return fail(EBADMSG, "{} bytes where its header says {}", file_size, expected_size);
    if (header.id != expected)
        return fail(
            ESTALE, "belongs to image {}, not {}", format_id(header.id), format_id(expected)
        );
    return {};
}

bool runs_are_sound(std::span<const ZeroRun> runs, std::uint64_t page_count) {
    std::uint64_t next = 0; // first page a run may start at: adjacent runs would be one
    for (const auto& run : runs) {
        if (run.first_page < next || run.page_count == 0 || run.first_page >= page_count ||
            run.page_count > page_count - run.first_page)
            return false;
        next = run.first_page + run.page_count + 1;
    }
    return true;
}

} // namespace

MemoryMap::MemoryMap(MemoryMap&&) noexcept = default;
MemoryMap& MemoryMap::operator=(MemoryMap&&) noexcept = default;
MemoryMap::~MemoryMap() = default;

Result<MemoryMap> MemoryMap::load(int fd, const ImageId& expected, std::string_view name) {
    auto map = read(fd, expected);
    if (!map) return std::unexpected(std::move(map).error().with_context(name));
    return map;
}

Result<MemoryMap> MemoryMap::read(int fd, const ImageId& expected) {
    struct stat st{};
    if (fstat(fd, &st) < 0) return fail_errno(errno, "stat");
    const auto size = static_cast<std::uint64_t>(st.st_size);
    MapHeader header;
    if (size < sizeof header) return fail(EBADMSG, "truncated");
    THAW_CHECK(pread_exact(fd, std::as_writable_bytes(std::span(&header, 1)), 0));
    THAW_CHECK(check_header(header, expected, size));

    MemoryMap map;
    map.checksum_ = header.checksum;
    map.bytes_.resize(size);
    THAW_CHECK(pread_exact(fd, map.bytes_, 0));
    // The file may have changed between the two reads.
    if (std::memcmp(map.bytes_.data(), &header, sizeof header) != 0)
        return fail(EBADMSG, "changed while it was read");
    const auto* words = reinterpret_cast<const std::uint64_t*>(map.bytes_.data() + sizeof header);
    map.page_hashes_ = {words, header.page_count};
    words += header.page_count;
    map.chunk_hashes_ = {words, header.chunk_count};
    words += header.chunk_count;
    map.zero_runs_ = {reinterpret_cast<const ZeroRun*>(words), header.run_count};

    if (map_checksum(header, map.chunk_hashes_, map.zero_runs_) != header.checksum)
        return fail(EBADMSG, "damaged (checksum mismatch)");
    if (!runs_are_sound(map.zero_runs_, header.page_count))
        return fail(EBADMSG, "zero runs overlap or leave the memory");
    return map;
}

std::uint64_t MemoryMap::page_hash(std::uint64_t page) const {
    THAW_INVARIANT(page < page_hashes_.size());
    return page_hashes_[page];
}

bool MemoryMap::chunk_is_valid(std::uint64_t chunk) const {
    THAW_INVARIANT(chunk < chunk_hashes_.size());
    const auto first = chunk * kPagesPerChunk;
    const auto list =
        page_hashes_.subspan(first, std::min(kPagesPerChunk, page_hashes_.size() - first));
    return XXH3_64bits(list.data(), list.size_bytes()) == chunk_hashes_[chunk];
}

bool MemoryMap::is_zero(std::uint64_t page) const {
    const auto after = std::ranges::upper_bound(zero_runs_, page, {}, &ZeroRun::first_page);
    if (after == zero_runs_.begin()) return false;
    const auto& run = *std::prev(after);
    return page - run.first_page < run.page_count;
}

std::uint64_t MemoryMap::run_length(std::uint64_t page, std::uint64_t limit) const {
    THAW_INVARIANT(page < page_hashes_.size());
    const auto after = std::ranges::upper_bound(zero_runs_, page, {}, &ZeroRun::first_page);
    std::uint64_t end = after == zero_runs_.end() ? page_count() : after->first_page;
    if (after != zero_runs_.begin()) {
        const auto& run = *std::prev(after);
        if (page - run.first_page < run.page_count) end = run.first_page + run.page_count;
    }
    return std::min(end - page, limit);
}

} // namespace thaw::image
