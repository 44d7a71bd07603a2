// SPDX-License-Identifier: MIT
#include "cache_view.hpp"

#include "core/text.hpp"

namespace thaw::ctl {

std::string cache_room(const Properties& cache) {
    const auto images = cache.number("Images");
    if (images == 0) return {};
    auto text = fmt::format(
        "{} remote image{}, {} of {} in memory", images, images == 1 ? "" : "s",
        format_size(cache.number("MemoryUsed")), format_size(cache.number("MemoryMax"))
    );
    if (const auto disk = cache.number("DiskMax"); disk > 0)
        text += fmt::format(
            ", {} of {} on disk", format_size(cache.number("DiskUsed")), format_size(disk)
        );
    return text;
}

std::string cache_use(const Properties& cache) {
    const auto hits = cache.number("Hits");
    const auto misses = cache.number("Misses");
    if (hits + misses == 0) return {};
    auto text = fmt::format(
        "{} fetched, {} hits, {} misses, {} evictions", format_size(cache.number("BytesFetched")),
        hits, misses, cache.number("Evictions")
    );
    if (const auto corrupt = cache.number("Corrupt"); corrupt > 0)
        text += fmt::format(", {} times damaged", corrupt);
    if (const auto failures = cache.number("Failures"); failures > 0)
        text += fmt::format(", {} failures", failures);
    return text;
}

} // namespace thaw::ctl
