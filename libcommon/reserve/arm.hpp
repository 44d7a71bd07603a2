// SPDX-License-Identifier: MIT
#pragma once

// Laying and healing a reserve. Whether to is decided elsewhere (rearm.hpp); never call this from a
// command that frees space. Blocks: up to the time one chunk takes to be written and synced.
// Processes exclude each other by a flock() on the reserve directory; EBUSY when another holds it.

#include "reserve/measure.hpp"

#include <optional>
#include <string>
#include <vector>

namespace thaw::reserve {

// Makes the directory (a subvolume without copy-on-write on btrfs), the text and the probe file
// where they are missing, then lays the first absent chunk: allocated under a temporary name,
// synced, verified, renamed, directory synced. A failure leaves nothing of the chunk behind.
// nullopt: no chunk is absent. ENOSPC/EDQUOT: no room. EOPNOTSUPP: the file system reserves nothing
// even for written bytes.
Result<std::optional<unsigned>> lay_next_chunk(const Volume& volume, const Plan& plan);

struct HealReport {
    std::vector<unsigned> healed;
    struct Problem {
        unsigned index;
        Error error;
    };
    std::vector<Problem> problems; // what could not be healed now; try again later
};
// Heals what heal_action() names, restores the text file beside chunks and removes leftovers of a
// killed arming. A chunk that cannot be healed stays as it is. Nothing to do where nothing was
// laid.
Result<HealReport> heal(const Volume& volume, const Plan& plan);

} // namespace thaw::reserve
