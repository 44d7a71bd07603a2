// SPDX-License-Identifier: MIT
#include "page_cache.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace thaw::restore {

namespace {

constexpr std::uint64_t kSamples = 256;
constexpr std::uint64_t kPagesPerSample = 16;

} // namespace

double cached_share(int fd, std::uint64_t size) {
    const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    const std::uint64_t pages = size / page;
    if (pages == 0) return 0;
    void* base = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) return 0;

    const std::uint64_t samples =
        std::min(kSamples, (pages + kPagesPerSample - 1) / kPagesPerSample);
    std::uint64_t seen = 0;
    std::uint64_t cached = 0;
    for (std::uint64_t i = 0; i < samples; ++i) {
        const std::uint64_t first = i * pages / samples;
        const std::uint64_t count = std::min(kPagesPerSample, pages - first);
        std::array<unsigned char, kPagesPerSample> present{};
        // The mapping is never read: a bad sector cannot reach us as SIGBUS.
        if (mincore(static_cast<char*>(base) + first * page, count * page, present.data()) < 0)
            break;
        seen += count;
        cached += static_cast<std::uint64_t>(std::count_if(
            present.begin(), present.begin() + static_cast<std::ptrdiff_t>(count),
            [](unsigned char p) { return (p & 1) != 0; }
        ));
    }
    munmap(base, size);
    return seen == 0 ? 0 : static_cast<double>(cached) / static_cast<double>(seen);
}

} // namespace thaw::restore
