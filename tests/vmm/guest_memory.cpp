// SPDX-License-Identifier: MIT
#include "guest_memory.hpp"

#include "page_content.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>

namespace thaw::standin {
namespace {

constexpr std::uint64_t gib = 1ULL << 30;
constexpr std::uint64_t hole_start = 3 * gib;
constexpr std::uint64_t hole_end = 4 * gib;
constexpr int huge_2m = 21 << 26; // MAP_HUGE_2MB: log2 of the size above MAP_HUGE_SHIFT

} // namespace

std::vector<RegionLayout> layout_of(std::uint64_t memory_bytes) {
    if (memory_bytes <= hole_start) {
        return {{0, memory_bytes, 0}};
    }
    return {{0, hole_start, 0}, {hole_end, memory_bytes - hole_start, hole_start}};
}

GuestMemory::~GuestMemory() {
    for (const Region& region : regions_) {
        ::munmap(region.host, region.layout.size);
    }
}

Result<void>
GuestMemory::map_anonymous(const std::vector<RegionLayout>& layout, std::uint64_t page_size) {
    page_size_ = page_size;
    const int huge = page_size == small_page ? 0 : MAP_HUGETLB | huge_2m;
    for (const RegionLayout& part : layout) {
        void* host = ::mmap(
            nullptr, part.size, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | huge, -1, 0
        );
        if (host == MAP_FAILED) {
            return fail("Cannot create mmap region: " + os_error(errno));
        }
        regions_.push_back({part, static_cast<std::uint8_t*>(host)});
        size_ += part.size;
    }
    return {};
}

Result<void> GuestMemory::map_file(const std::vector<RegionLayout>& layout, int file) {
    file_backed_ = true;
    struct stat info{};
    if (::fstat(file, &info) != 0) {
        return fail(os_error(errno));
    }
    for (const RegionLayout& part : layout) {
        if (part.offset + part.size > static_cast<std::uint64_t>(info.st_size)) {
            return fail("The specified file offset and length is greater then file length");
        }
        void* host = ::mmap(
            nullptr, part.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file,
            static_cast<off_t>(part.offset)
        );
        if (host == MAP_FAILED) {
            return fail("Cannot create mmap region: " + os_error(errno));
        }
        regions_.push_back({part, static_cast<std::uint8_t*>(host)});
        size_ += part.size;
    }
    return {};
}

std::uint64_t GuestMemory::pages() const {
    return size_ / small_page;
}

const GuestMemory::Region& GuestMemory::region_of(std::uint64_t byte_offset) const {
    for (const Region& region : regions_) {
        if (byte_offset - region.layout.offset < region.layout.size) {
            return region;
        }
    }
    std::abort(); // a page number out of range is a bug of the stand-in itself
}

std::uint8_t* GuestMemory::page(std::uint64_t number) const {
    const Region& region = region_of(number * small_page);
    return region.host + (number * small_page - region.layout.offset);
}

std::uint64_t GuestMemory::guest_address(std::uint64_t number) const {
    const Region& region = region_of(number * small_page);
    return region.layout.guest_address + (number * small_page - region.layout.offset);
}

std::uint64_t GuestMemory::region_end(std::uint64_t number) const {
    const Region& region = region_of(number * small_page);
    return (region.layout.offset + region.layout.size) / small_page;
}

Result<void> GuestMemory::drop(std::uint64_t first, std::uint64_t count, bool map_over) {
    const std::size_t size = count * small_page;
    if (file_backed_ || (map_over && page_size_ == small_page)) {
        void* fresh = ::mmap(
            page(first), size, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0
        );
        return fresh == MAP_FAILED ? Result<void>(fail("mmap over: " + os_error(errno)))
                                   : Result<void>();
    }
    if (::madvise(page(first), size, MADV_DONTNEED) != 0) {
        return fail("madvise: " + os_error(errno));
    }
    return {};
}

} // namespace thaw::standin
