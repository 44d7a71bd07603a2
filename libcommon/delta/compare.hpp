// SPDX-License-Identifier: MIT
#pragma once

// Whether two disks or memories are the same, each a difference (with or without its base) or a
// plain file.

#include "delta/reader.hpp"

#include <optional>

namespace thaw::delta {

// One side. What it points to outlives the comparison.
struct Side {
    const DeltaFile* difference = nullptr; // verified by the caller; nullptr: a plain file
    int plain = -1;                        // the plain file
    int base = -1;                         // of the difference; -1: only its own blocks are known
    std::uint64_t size = 0;                // bytes; of a plain file, else taken from the difference
};

struct Comparison {
    bool same = true;
    std::uint64_t differing_bytes = 0;  // in whole pieces of 512
    std::optional<std::uint64_t> first; // offset of the first of them
    std::string reason;                 // in words, when they are not the same
};

// Differences without their bases are the same when base, geometry and changed blocks are. A block
// that only one of them has counts as differing then: what lies below is not known.
// Beyond the end of the shorter side nothing is read. EINVAL when a difference without its base is
// compared with a plain file.
Result<Comparison> compare(const Side& a, const Side& b, const Progress& progress);

} // namespace thaw::delta
