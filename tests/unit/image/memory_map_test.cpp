// SPDX-License-Identifier: MIT

#include "core/file.hpp"
#include "fixture.hpp"
#include "image/memory_map.hpp"

#include <sys/mman.h>

#include <cstring>

namespace thaw::image {
namespace {

using testing::sample_memory;
using testing::sample_page_is_zero;

constexpr ImageId kId{1, 2, 3};

Fd file_with(std::span<const std::byte> bytes) {
    Fd fd(memfd_create("map", MFD_CLOEXEC));
    EXPECT_TRUE(fd);
    EXPECT_TRUE(write_all(fd.get(), bytes));
    return fd;
}

std::vector<std::byte> build(const std::string& memory) {
    const auto fd = file_with(std::as_bytes(std::span(memory)));
    auto map = build_memory_map(fd.get(), kId, {});
    EXPECT_TRUE(map) << map.error().message();
    return map.value_or(std::vector<std::byte>{});
}

// The map with header or runs replaced and its checksum made good again.
std::vector<std::byte> resigned(std::vector<std::byte> bytes) {
    MapHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const auto* words = reinterpret_cast<const std::uint64_t*>(bytes.data() + sizeof header);
    const std::span chunks(words + header.page_count, header.chunk_count);
    const std::span runs(
        reinterpret_cast<const ZeroRun*>(words + header.page_count + header.chunk_count),
        header.run_count
    );
    header.checksum = map_checksum(header, chunks, runs);
    std::memcpy(bytes.data(), &header, sizeof header);
    return bytes;
}

int load_error(std::span<const std::byte> bytes, const ImageId& id = kId) {
    const auto fd = file_with(bytes);
    const auto map = MemoryMap::load(fd.get(), id);
    return map ? 0 : map.error().code();
}

TEST(MemoryMap, KnowsEveryPage) {
    const auto memory = sample_memory();
    const auto bytes = build(memory);
    const auto fd = file_with(bytes);
    const auto map = MemoryMap::load(fd.get(), kId);
    ASSERT_TRUE(map) << map.error().message();
    const auto pages = memory.size() / kMapPageSize;
    ASSERT_EQ(map->page_count(), pages);
    ASSERT_EQ(map->chunk_count(), 2U);
    EXPECT_TRUE(map->chunk_is_valid(0));
    EXPECT_TRUE(map->chunk_is_valid(1));
    for (std::uint64_t page = 0; page < pages; page++) {
        const auto* data = reinterpret_cast<const std::byte*>(&memory[page * kMapPageSize]);
        ASSERT_EQ(map->page_hash(page), hash_page(data)) << page;
        ASSERT_EQ(map->is_zero(page), sample_page_is_zero(page)) << page;
        std::uint64_t length = 1;
        while (page + length < pages &&
               sample_page_is_zero(page + length) == sample_page_is_zero(page))
            length++;
        ASSERT_EQ(map->run_length(page, UINT64_MAX), length) << page;
        ASSERT_EQ(map->run_length(page, 2), std::min<std::uint64_t>(2, length)) << page;
    }
    EXPECT_FALSE(map->is_zero(pages));
}

TEST(MemoryMap, FindsTheOneByteOfAPage) {
    std::string page(kMapPageSize, '\0');
    EXPECT_TRUE(is_zero_page(reinterpret_cast<const std::byte*>(page.data())));
    for (std::size_t at = 0; at < page.size(); at++) {
        page[at] = 1;
        ASSERT_FALSE(is_zero_page(reinterpret_cast<const std::byte*>(page.data()))) << at;
        page[at] = 0;
    }
}

TEST(MemoryMap, AllZeroAndAllData) {
    for (const char fill : {'\0', 'x'}) {
        const auto bytes = build(std::string(8 << 20, fill));
        const auto fd = file_with(bytes);
        const auto map = MemoryMap::load(fd.get(), kId);
        ASSERT_TRUE(map);
        EXPECT_EQ(map->zero_runs().size(), fill == '\0' ? 1U : 0U);
        EXPECT_EQ(map->run_length(0, UINT64_MAX), 2048U);
        EXPECT_EQ(map->is_zero(2047), fill == '\0');
    }
}

TEST(MemoryMap, RefusesFilesThatAreNoMemory) {
    const Fd empty(memfd_create("empty", MFD_CLOEXEC));
    EXPECT_EQ(build_memory_map(empty.get(), kId, {}).error().code(), EINVAL);
    const auto odd = file_with(std::vector<std::byte>(kMapPageSize + 1));
    EXPECT_EQ(build_memory_map(odd.get(), kId, {}).error().code(), EINVAL);
    const auto some = file_with(std::vector<std::byte>(kMapPageSize));
    const auto stopped =
        build_memory_map(some.get(), kId, [](std::uint64_t, std::uint64_t) { return false; });
    EXPECT_EQ(stopped.error().code(), ECANCELED);
}

TEST(MemoryMap, RefusesEveryTruncation) {
    const auto bytes = build(sample_memory(64 << 10));
    for (std::size_t size = 0; size < bytes.size(); size++)
        ASSERT_EQ(load_error(std::span(bytes).first(size)), EBADMSG) << size;
    auto longer = bytes;
    longer.push_back({});
    EXPECT_EQ(load_error(longer), EBADMSG);
}

// A flipped bit is refused at once, or, in the page hashes, shows when the chunk is checked.
TEST(MemoryMap, NoticesEveryFlippedBit) {
    auto bytes = build(sample_memory(64 << 10));
    const std::size_t hashes_end = sizeof(MapHeader) + 16 * 8;
    for (std::size_t bit = 0; bit < bytes.size() * 8; bit++) {
        const std::byte mask{static_cast<unsigned char>(1U << (bit % 8))};
        bytes[bit / 8] ^= mask;
        const auto fd = file_with(bytes);
        const auto map = MemoryMap::load(fd.get(), kId);
        const bool in_hashes = bit / 8 >= sizeof(MapHeader) && bit / 8 < hashes_end;
        ASSERT_EQ(map.has_value(), in_hashes) << bit;
        ASSERT_TRUE(!map || !map->chunk_is_valid(0)) << bit;
        bytes[bit / 8] ^= mask;
    }
    EXPECT_EQ(load_error(bytes), 0);
}

TEST(MemoryMap, RefusesForeignIdsAndVersions) {
    const auto bytes = build(sample_memory(64 << 10));
    EXPECT_EQ(load_error(bytes, ImageId{9}), ESTALE);
    auto newer = bytes;
    MapHeader header;
    std::memcpy(&header, newer.data(), sizeof header);
    header.version++;
    std::memcpy(newer.data(), &header, sizeof header);
    EXPECT_EQ(load_error(resigned(newer)), EPROTONOSUPPORT);
}

// Hostile headers and runs whose checksum is right: counts that overflow, runs that leave memory.
TEST(MemoryMap, RefusesUnsoundStructure) {
    const auto bytes = build(sample_memory(64 << 10));
    EXPECT_EQ(load_error(resigned(bytes)), 0);
    for (const std::uint64_t count : {0ULL, 17ULL, 1ULL << 34, 1ULL << 61, ~0ULL}) {
        auto bad = bytes;
        std::memcpy(&bad[offsetof(MapHeader, page_count)], &count, sizeof count);
        EXPECT_EQ(load_error(bad), EBADMSG) << count;
        bad = bytes;
        std::memcpy(&bad[offsetof(MapHeader, run_count)], &count, sizeof count);
        EXPECT_EQ(load_error(bad), EBADMSG) << count;
    }
    const std::size_t first_run = sizeof(MapHeader) + 16 * 8 + 8;
    const ZeroRun bad_runs[] = {{0, 0}, {0, 17}, {16, 1}, {1, ~0ULL}, {~0ULL, 2}, {4, 2}};
    for (const auto& run : bad_runs) {
        auto bad = bytes;
        std::memcpy(&bad[first_run], &run, sizeof run);
        EXPECT_EQ(load_error(resigned(bad)), EBADMSG) << run.first_page << "+" << run.page_count;
    }
}

} // namespace
} // namespace thaw::image
