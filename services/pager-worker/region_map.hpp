// SPDX-License-Identifier: MIT
#pragma once

// From addresses in the VMM to pages of the memory file and back. Pure; built once per worker from
// a validated region table.

#include "protocol/session_layout.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace thaw::worker {

// One page as the VMM's mapping has it.
struct PageLocation {
    std::uint64_t address = 0; // of the page in the VMM
    std::uint64_t offset = 0;  // of the page in the memory file
    std::uint64_t page_size = 0;
    bool operator==(const PageLocation&) const = default;

    std::uint64_t first_bit() const { return offset / protocol::kBitPage; }
    std::uint64_t bit_count() const { return page_size / protocol::kBitPage; }
};

// A range of 4 KiB pages of the memory file.
struct BitRange {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    bool operator==(const BitRange&) const = default;
};

class RegionMap {
public:
    // `regions` passed check_regions().
    explicit RegionMap(std::span<const protocol::Region> regions);

    // The page that holds `address`; nullopt outside every region.
    std::optional<PageLocation> find(std::uint64_t address) const;
    // The page that holds byte `offset` of the memory file; nullopt when no region has it. Its
    // address and offset are those of the 4 KiB page, whatever the page size.
    std::optional<PageLocation> at_offset(std::uint64_t offset) const;
    // 4 KiB pages from `at` to the end of its region.
    std::uint64_t pages_after(const PageLocation& at) const;
    // 4 KiB pages between the beginning of the page that holds bit `page` and it; 0 unless huge.
    std::uint64_t pages_into(const PageLocation& at, std::uint64_t page) const;
    // What of [start, end) lies in the regions, in whole pages: a page that is only partly inside
    // keeps its other half, so it does not count. Backward ranges are empty.
    std::vector<BitRange> clamp(std::uint64_t start, std::uint64_t end) const;

    std::span<const protocol::Region> regions() const { return regions_; }
    std::uint64_t largest_page() const { return largest_page_; }

private:
    std::vector<protocol::Region> regions_; // by base
    std::uint64_t largest_page_ = protocol::kBitPage;
};

} // namespace thaw::worker
