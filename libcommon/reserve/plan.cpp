// SPDX-License-Identifier: MIT
#include "reserve/plan.hpp"

#include "core/text.hpp"

#include <algorithm>

namespace thaw::reserve {

namespace {

constexpr std::uint64_t kMaximum = kChunkBytes * kMaxChunks;

std::uint64_t whole_mib(std::uint64_t bytes) {
    return (bytes + kMiB - 1) / kMiB * kMiB;
}

std::uint64_t root_pool(const Space& space, std::string_view type) {
    if (!type.starts_with("ext")) return 0;
    return space.free - std::min(space.free, space.available);
}

} // namespace

Result<SizeSetting> parse_size_setting(std::string_view text) {
    SizeSetting setting;
    if (text == "auto") {
        setting.automatic = true;
        return setting;
    }
    THAW_TRY(setting.bytes, parse_size(text));
    if (setting.bytes != 0 && (setting.bytes < kMiB || setting.bytes > kMaximum))
        return fail(
            ERANGE, "a reserve has between {} and {}, or 0 for none", format_size(kMiB),
            format_size(kMaximum)
        );
    return setting;
}

unsigned Plan::chunks() const {
    return static_cast<unsigned>((bytes + kChunkBytes - 1) / kChunkBytes);
}

std::uint64_t Plan::chunk_length(unsigned index) const {
    const std::uint64_t start = index * kChunkBytes;
    return start >= bytes ? 0 : std::min(kChunkBytes, bytes - start);
}

Plan plan_reserve(const SizeSetting& setting, const Space& space, std::string_view type) {
    if (!setting.automatic) return {.bytes = std::min(whole_mib(setting.bytes), kMaximum)};
    const auto one_percent = space.total / 100;
    auto bytes = std::max(kDefaultBytes, std::min(kAutoMaximum, one_percent));
    const bool hidden = setting.root_writers && type.starts_with("ext") && space.available == 0;
    if (setting.root_writers && !hidden) bytes += root_pool(space, type);
    return {.bytes = std::min(whole_mib(bytes), kMaximum), .provisional = hidden};
}

} // namespace thaw::reserve
