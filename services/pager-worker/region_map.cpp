// SPDX-License-Identifier: MIT
#include "region_map.hpp"

#include <algorithm>

namespace thaw::worker {

RegionMap::RegionMap(std::span<const protocol::Region> regions)
    : regions_(regions.begin(), regions.end()) {
    std::ranges::sort(regions_, {}, &protocol::Region::base);
    for (const auto& region : regions_)
        largest_page_ = std::max(largest_page_, region.page_size);
}

std::optional<PageLocation> RegionMap::find(std::uint64_t address) const {
    const auto after = std::ranges::upper_bound(regions_, address, {}, &protocol::Region::base);
    if (after == regions_.begin()) return std::nullopt;
    const protocol::Region& region = *std::prev(after);
    if (address - region.base >= region.size) return std::nullopt;
    const std::uint64_t within = (address - region.base) & ~(region.page_size - 1);
    return PageLocation{
        .address = region.base + within,
        .offset = region.offset + within,
        .page_size = region.page_size,
    };
}

std::optional<PageLocation> RegionMap::at_offset(std::uint64_t offset) const {
    for (const auto& region : regions_) { // few
        if (offset < region.offset || offset - region.offset >= region.size) continue;
        const std::uint64_t within = (offset - region.offset) & ~(protocol::kBitPage - 1);
        return PageLocation{
            .address = region.base + within,
            .offset = region.offset + within,
            .page_size = region.page_size,
        };
    }
    return std::nullopt;
}

std::uint64_t RegionMap::pages_after(const PageLocation& at) const {
    for (const auto& region : regions_)
        if (at.offset >= region.offset && at.offset - region.offset < region.size)
            return (region.offset + region.size - at.offset) / protocol::kBitPage;
    return 0;
}

std::uint64_t RegionMap::pages_into(const PageLocation& at, std::uint64_t page) const {
    for (const auto& region : regions_)
        if (at.offset >= region.offset && at.offset - region.offset < region.size)
            return (page - region.offset / protocol::kBitPage) % at.bit_count();
    return 0;
}

std::vector<BitRange> RegionMap::clamp(std::uint64_t start, std::uint64_t end) const {
    std::vector<BitRange> ranges;
    for (const auto& region : regions_) {
        const std::uint64_t from = std::max(start, region.base);
        const std::uint64_t to = std::min(end, region.base + region.size);
        if (from >= to) continue;
        const std::uint64_t mask = region.page_size - 1;
        const std::uint64_t first = (from - region.base + mask) & ~mask;
        const std::uint64_t last = (to - region.base) & ~mask;
        if (first >= last) continue;
        ranges.push_back({
            .first = (region.offset + first) / protocol::kBitPage,
            .count = (last - first) / protocol::kBitPage,
        });
    }
    return ranges;
}

} // namespace thaw::worker
