// SPDX-License-Identifier: MIT
#pragma once

// Installs runs of pages nobody has asked for (yet): what is present or removed is skipped, what
// the kernel takes in part is gone on with. The removed bits are looked at right before each ioctl.

#include "ledger.hpp"
#include "region_map.hpp"
#include "tracker.hpp"

#include <cstddef>
#include <cstdint>

namespace thaw::worker {

struct RunResult {
    std::uint64_t pages = 0;                 // 4 KiB pages that need nothing more
    FillOutcome outcome = FillOutcome::Done; // why it ended before the last page
    int errno_value = 0;
};

class RunInstaller {
public:
    // All outlive it. `zeros` are as many as the largest page has.
    RunInstaller(
        protocol::SessionMemory& memory, const RegionMap& regions, Tracker& tracker, Ledger& ledger,
        const std::byte* zeros
    )
        : memory_(memory), regions_(regions), tracker_(tracker), ledger_(ledger), zeros_(zeros) {}

    // `data`: the bytes of `pages`, nullptr for zeros. Whole pages of the regions' size; a huge
    // page that is only in part inside, or that has lost a part, is left out.
    RunResult fill(Cause cause, BitRange pages, const std::byte* data);
    // Notes the pages that a predecessor put in and died before it could note them. Of small ones
    // the next try would tell; of huge ones it does not, as an empty pool says EEXIST too.
    void settle_predecessor();

private:
    struct Extent { // of pages that stand side by side in the VMM too
        PageLocation first;
        std::uint64_t pages = 0;
    };
    RunResult fill_extent(Cause cause, const Extent& extent, const std::byte* data);
    FillResult put(const PageLocation& at, std::uint64_t pages, const std::byte* data);
    void skip(Cause cause, std::uint64_t first, std::uint64_t count);

    protocol::SessionMemory& memory_;
    const RegionMap& regions_;
    Tracker& tracker_;
    Ledger& ledger_;
    const std::byte* zeros_;
};

} // namespace thaw::worker
