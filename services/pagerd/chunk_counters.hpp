// SPDX-License-Identifier: MIT
#pragma once

// What the chunk cache did since the broker started.

#include "core/text.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <numeric>

namespace thaw::pagerd {

// Bucket i counts times below 2^i µs (and not below 2^(i-1)), the last one everything above.
struct TimeHistogram {
    std::array<std::uint64_t, 32> buckets{};
    std::uint64_t sum_usec = 0;

    void add(Microseconds time) {
        const auto bucket = static_cast<std::size_t>(std::bit_width(time));
        ++buckets[std::min(bucket, buckets.size() - 1)];
        sum_usec += time;
    }
    std::uint64_t count() const {
        return std::accumulate(buckets.begin(), buckets.end(), std::uint64_t{0});
    }
};

struct ChunkCounters {
    std::uint64_t hits = 0;          // wants whose pages were in memory
    std::uint64_t misses = 0;        // wants that had to wait
    std::uint64_t fetches = 0;       // chunks fetched from their source
    std::uint64_t bytes_fetched = 0; // that landed, those of failed fetches included
    std::uint64_t loads = 0;         // chunks read back from disk
    std::uint64_t spills = 0;        // chunks written to disk
    std::uint64_t evictions = 0;     // chunks whose memory was given back
    std::uint64_t evictions_disk = 0;
    std::uint64_t failures = 0;     // chunks that could not be had
    std::uint64_t corrupt = 0;      // times that what came was not what was sealed
    TimeHistogram fetch_latency;    // from the request to the whole chunk
    TimeHistogram store_time;       // of a chunk into the tier on disk
    std::uint64_t bytes_stored = 0; // there
};

} // namespace thaw::pagerd
