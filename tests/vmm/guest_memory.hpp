// SPDX-License-Identifier: MIT
#pragma once

#include "result.hpp"

#include <cstdint>
#include <vector>

namespace thaw::standin {

/// Where guest RAM lies. On x86 the 32-bit hole for devices splits RAM that reaches 3 GiB.
struct RegionLayout {
    std::uint64_t guest_address;
    std::uint64_t size;
    std::uint64_t offset; ///< in the memory file: the sum of the sizes before it
};

std::vector<RegionLayout> layout_of(std::uint64_t memory_bytes);

/// Guest RAM in this process. "Page" numbers count small pages (4 KiB) in memory-file order.
class GuestMemory {
public:
    struct Region {
        RegionLayout layout;
        std::uint8_t* host;
    };

    GuestMemory() = default;
    GuestMemory(const GuestMemory&) = delete;
    GuestMemory& operator=(const GuestMemory&) = delete;
    ~GuestMemory();

    /// Anonymous private memory without reserve, one mapping per region; huge pages when the page
    /// size is 2 MiB.
    Result<void> map_anonymous(const std::vector<RegionLayout>& layout, std::uint64_t page_size);
    /// Private mapping of the memory file, which must be at least as long as the regions.
    Result<void> map_file(const std::vector<RegionLayout>& layout, int file);

    const std::vector<Region>& regions() const { return regions_; }
    std::uint64_t size() const { return size_; }
    std::uint64_t page_size() const { return page_size_; }
    std::uint64_t pages() const;
    std::uint8_t* page(std::uint64_t number) const;
    std::uint64_t guest_address(std::uint64_t number) const;

    /// Gives [first, first+count) back to the host as a balloon does. The range must lie in one
    /// region and be aligned to the page size. Memory that cannot become zero by MADV_DONTNEED
    /// (file backed), or is said to be from a VMM that does so, gets fresh memory mapped over it.
    Result<void> drop(std::uint64_t first, std::uint64_t count, bool map_over);
    /// First page after the region that holds this page.
    std::uint64_t region_end(std::uint64_t number) const;

private:
    const Region& region_of(std::uint64_t byte_offset) const;

    std::vector<Region> regions_;
    std::uint64_t size_ = 0;
    std::uint64_t page_size_ = 4096;
    bool file_backed_ = false;
};

} // namespace thaw::standin
