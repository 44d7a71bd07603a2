// SPDX-License-Identifier: MIT
#pragma once

// Pure decisions of the chunk cache.

#include "core/enum_table.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace thaw::pagerd {

// Where chunks of remote images are kept.
enum class CacheBacking : std::uint8_t {
    Auto,   // in memory, pushed out to disk when that is full
    Memory, // in memory only: what is pushed out is fetched again
    File,   // on disk; memory holds no more than what is being read
};
inline constexpr EnumTable kCacheBackings{std::array{
    std::pair{CacheBacking::Auto, std::string_view("auto")},
    std::pair{CacheBacking::Memory, std::string_view("memfd")},
    std::pair{CacheBacking::File, std::string_view("file")},
}};

struct CacheBudget {
    CacheBacking backing = CacheBacking::Auto;
    std::uint64_t memory = 0; // bytes
    std::uint64_t disk = 0;   // bytes
};
// With File, memory is a window for what is under way.
inline constexpr std::uint64_t kFileWindow = 128 << 20;

// What the settings come to: chunks in memory (at least 4, so that anything can go on) and on disk.
struct ChunkBudget {
    std::uint64_t memory = 0;
    std::uint64_t disk = 0;
};
ChunkBudget chunk_budget(const CacheBudget& budget);

// A chunk that could go.
struct ChunkAge {
    std::size_t image = 0; // the caller's
    std::uint64_t chunk = 0;
    std::uint32_t last_use = 0; // wraps around; compared as a distance from `now`
    bool has_users = false;     // a session uses its image
};
// The `count` that are missed least: of images that nobody uses first, then those that were read
// the longest ago.
std::vector<ChunkAge>
choose_victims(std::vector<ChunkAge> candidates, std::size_t count, std::uint32_t now);

} // namespace thaw::pagerd
