// SPDX-License-Identifier: MIT
#pragma once

// What cache-bench measures; each returns its part of the report.

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace thaw::bench {

struct CacheOptions {
    std::string folder; // on a disk file system, with room for the image three times
    unsigned runs = 3;
    std::uint64_t image_mib = 2048; // restored whole
    std::uint64_t vm_mib = 512;     // of each of many
    unsigned vms = 25;
    std::uint64_t set_mib = 32; // that each of them touches
    // Dirty bytes that the throttled device may have.
    // As little as makes a difference on any disk: with 16 MiB one that takes 450 MB/s is hardly
    // held back (ratio 1.4, with 1 MiB 6.7).
    std::uint64_t throttle_kib = 1 << 10;
};

// An image fetched whole from a web server into memory, into a file by the page cache and past it,
// on a disk whose writers the kernel holds back and on one where it does not.
nlohmann::json measure_whole(const CacheOptions& options);
// Many VMs of one remote image, one after the other.
nlohmann::json measure_shared(const CacheOptions& options);

} // namespace thaw::bench
