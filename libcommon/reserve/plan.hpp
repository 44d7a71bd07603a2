// SPDX-License-Identifier: MIT
#pragma once

// How large a reserve shall be. Pure decisions; sizes in bytes.

#include "reserve/space.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace thaw::reserve {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
// Deleting images and logs needs a few MiB of journal and metadata; 64 MiB leaves room to work.
inline constexpr std::uint64_t kDefaultBytes = 64 * kMiB;
inline constexpr std::uint64_t kAutoMaximum = 1024 * kMiB;
// Small enough that a part can be released, large enough that 1 GiB is 128 files.
inline constexpr std::uint64_t kChunkBytes = 8 * kMiB;
inline constexpr unsigned kMaxChunks = 8192; // 64 GiB

struct SizeSetting {
    bool automatic = false;
    std::uint64_t bytes = kDefaultBytes; // when not automatic; 0: no reserve
    // Root writers are expected to fill the file system: `automatic` then adds ext4's root pool,
    // which refills itself first when space comes back.
    bool root_writers = false;
    bool operator==(const SizeSetting&) const = default;
};

// "auto", "64M", "0". EINVAL; ERANGE below 1 MiB (0 apart) or above kMaxChunks chunks.
Result<SizeSetting> parse_size_setting(std::string_view text);

struct Plan {
    std::uint64_t bytes = kDefaultBytes;
    // Something that belongs to it could not be seen: chunks beyond it are kept as they are.
    bool provisional = false;

    // chunks() files of kChunkBytes, the last one with the rest.
    unsigned chunks() const;
    std::uint64_t chunk_length(unsigned index) const; // 0 beyond the last
    bool operator==(const Plan&) const = default;
};

// auto = max(64 MiB, min(1 GiB, 1 %)) (+ root pool), whole MiB. The root pool shows only while
// something is available: with less the plan is provisional, make it anew later.
Plan plan_reserve(const SizeSetting& setting, const Space& space, std::string_view type);

} // namespace thaw::reserve
