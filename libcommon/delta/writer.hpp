// SPDX-License-Identifier: MIT
#pragma once

// Writes a difference. The sources must not change meanwhile: they belong to a point of an overlay
// or to a sealed image.

#include "delta/format.hpp"

#include <functional>

namespace thaw::delta {

// done and total in bytes of data; false cancels (ECANCELED).
using Progress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

struct SourceRun {
    std::uint64_t first_block = 0;
    std::uint32_t count = 0;
    int fd = -1; // borrowed; -1: zeros
    std::uint64_t offset = 0;
};

// Writes the whole file into `target`, which is empty and writable. Of `what` kind, geometry, base,
// id, created, notes and state are taken; runs come from `sources`, which are sorted, neighbours
// becoming one. Large runs go by copy_file_range() where that works, the others are gathered.
// Returns what was written. EIO "truncated" when a source is too short.
Result<Delta>
write_delta(int target, Delta what, std::span<const SourceRun> sources, const Progress& progress);

} // namespace thaw::delta
