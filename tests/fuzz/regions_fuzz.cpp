// SPDX-License-Identifier: MIT
// What a VMM sends with its userfaultfd: in two parts, as a stream may deliver it.
#include "region_list.hpp"
#include "target.hpp"

#include <algorithm>

using namespace thaw;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::size_t cut = data[0] % size;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    pagerd::ArrayScanner scanner;
    scanner.feed(text.substr(0, cut));
    const auto state = scanner.feed(text.substr(std::min(cut, text.size())));
    const auto regions = pagerd::parse_region_list(text);
    // The scanner must not hold back what the parser would take.
    if (regions) fuzz::require(state == pagerd::ArrayScanner::State::Complete);
    if (!regions) return 0;
    constexpr std::uint64_t kMemory = 1 << 28;
    const pagerd::RegionLimits limits = {.memory_size = kMemory, .page_size = 0, .max_regions = 16};
    if (!pagerd::validate_regions(*regions, limits)) return 0;
    std::uint64_t sum = 0;
    for (const auto& region : *regions) {
        fuzz::require(region.offset < kMemory && region.size <= kMemory - region.offset);
        fuzz::require(region.address + region.size > region.address);
        sum += region.size;
    }
    fuzz::require(sum == kMemory && regions->size() <= 16);
    return 0;
}
