// SPDX-License-Identifier: MIT
#include "region_list.hpp"

#include "api/pager1.hpp"
#include "config/json.hpp"

#include <algorithm>
#include <optional>

namespace thaw::pagerd {

namespace {

constexpr std::uint64_t kSmallPage = 4096;
constexpr std::uint64_t kHugePage = 2 << 20;
constexpr unsigned kMaxDepth = 32;

bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

template <class... Args>
std::unexpected<Error> invalid_handshake(fmt::format_string<Args...> text, Args&&... args) {
    return fail_named(
        pager1::error::kHandshakeInvalid, EPROTO, "{}",
        fmt::format(text, std::forward<Args>(args)...)
    );
}

template <class... Args>
std::unexpected<Error> invalid_regions(fmt::format_string<Args...> text, Args&&... args) {
    return fail_named(
        pager1::error::kRegionsInvalid, ERANGE, "{}", fmt::format(text, std::forward<Args>(args)...)
    );
}

Result<GuestRegion> parse_region(const JsonView& element) {
    GuestRegion region;
    THAW_TRY(region.address, element.unsigned_number("base_host_virt_addr"));
    THAW_TRY(region.size, element.unsigned_number("size"));
    THAW_TRY(region.offset, element.unsigned_number("offset"));
    THAW_TRY(const auto old_page_size, element.unsigned_or("page_size_kib", kSmallPage));
    THAW_TRY(region.page_size, element.unsigned_or("page_size", old_page_size));
    return region;
}

// One region by itself: sizes, alignment, no wrap-around.
Result<> validate_region(const GuestRegion& region, std::size_t index, const RegionLimits& limits) {
    if (region.page_size != kSmallPage && region.page_size != kHugePage)
        return invalid_regions("region {}: page size {} is not known", index, region.page_size);
    if (region.size == 0) return invalid_regions("region {} is empty", index);
    const auto mask = region.page_size - 1;
    if ((region.address & mask) != 0 || (region.size & mask) != 0 || (region.offset & mask) != 0)
        return invalid_regions("region {} is not aligned to its page size", index);
    if (region.address == 0) return invalid_regions("region {} starts at address 0", index);
    if (region.size > UINT64_MAX - region.address)
        return invalid_regions("region {} wraps around the address space", index);
    if (region.offset > limits.memory_size || region.size > limits.memory_size - region.offset)
        return invalid_regions(
            "region {} (offset {}, size {}) lies outside the image of {} bytes", index,
            region.offset, region.size, limits.memory_size
        );
    return {};
}

// Whether two of the spans [first, first + size) overlap; no span wraps.
bool overlaps(std::vector<std::pair<std::uint64_t, std::uint64_t>> spans) {
    std::sort(spans.begin(), spans.end());
    for (std::size_t i = 1; i < spans.size(); ++i)
        if (spans[i].first - spans[i - 1].first < spans[i - 1].second) return true;
    return false;
}

} // namespace

ArrayScanner::State ArrayScanner::feed(std::string_view part) {
    for (const char c : part) {
        if (state_ == State::Invalid) break;
        if (in_string_) {
            if (escaped_)
                escaped_ = false;
            else if (c == '\\')
                escaped_ = true;
            else if (c == '"')
                in_string_ = false;
            continue;
        }
        if (is_space(c)) continue;
        // Outside of the array there is nothing but its opening bracket.
        if (depth_ == 0 && (c != '[' || state_ == State::Complete)) {
            state_ = State::Invalid;
        } else if (c == '"') {
            in_string_ = true;
        } else if (c == '[' || c == '{') {
            if (++depth_ > kMaxDepth) state_ = State::Invalid;
        } else if (c == ']' || c == '}') {
            if (--depth_ == 0) state_ = State::Complete;
        }
    }
    return state_;
}

Result<std::vector<GuestRegion>> parse_region_list(std::string_view json) {
    auto document = JsonDocument::parse(json);
    if (!document) return invalid_handshake("region list: {}", document.error().message());
    const auto root = document->root();
    if (!root.is_array()) return invalid_handshake("region list: not an array");
    auto elements = root.elements();
    if (!elements) return invalid_handshake("region list: {}", elements.error().message());
    std::vector<GuestRegion> regions;
    for (std::size_t index = 0; index < elements->size(); ++index) {
        const auto& element = (*elements)[index];
        if (!element.is_object()) return invalid_handshake("region {} is not an object", index);
        auto region = parse_region(element);
        if (!region) return invalid_handshake("region {}: {}", index, region.error().message());
        regions.push_back(*region);
    }
    return regions;
}

Result<> validate_regions(const std::vector<GuestRegion>& regions, const RegionLimits& limits) {
    if (regions.empty()) return invalid_regions("the list of regions is empty");
    if (regions.size() > limits.max_regions)
        return invalid_regions(
            "{} regions, at most {} allowed", regions.size(), limits.max_regions
        );
    std::vector<std::pair<std::uint64_t, std::uint64_t>> addresses;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> offsets;
    std::uint64_t total = 0;
    for (std::size_t index = 0; index < regions.size(); ++index) {
        const auto& region = regions[index];
        THAW_CHECK(validate_region(region, index, limits));
        if (region.page_size != regions.front().page_size)
            return invalid_regions("region {} has another page size than region 0", index);
        addresses.emplace_back(region.address, region.size);
        offsets.emplace_back(region.offset, region.size);
        // Each size is at most memory_size; stopping here keeps the sum from wrapping.
        total += region.size;
        if (total > limits.memory_size) break;
    }
    if (overlaps(std::move(addresses))) return invalid_regions("regions overlap in memory");
    if (overlaps(std::move(offsets))) return invalid_regions("regions overlap in the image");
    if (total != limits.memory_size)
        return fail_named(
            pager1::error::kImageMismatch, ESTALE,
            "the regions add up to {} bytes, the image has {}", total, limits.memory_size
        );
    if (limits.page_size != 0 && regions.front().page_size != limits.page_size)
        return fail_named(
            pager1::error::kImageMismatch, ESTALE,
            "the regions have pages of {} bytes, the image {}", regions.front().page_size,
            limits.page_size
        );
    return {};
}

} // namespace thaw::pagerd
