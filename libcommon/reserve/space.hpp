// SPDX-License-Identifier: MIT
#pragma once

// What statvfs says about a file system, in bytes and inodes.

#include "core/error.hpp"

#include <cstdint>

namespace thaw::reserve {

struct Space {
    std::uint64_t total = 0;
    std::uint64_t free = 0;      // f_bfree: what uid 0 may still write (ext4: with the root pool)
    std::uint64_t available = 0; // f_bavail: what everybody else may write
    // Zero total: the file system counts no inodes (btrfs); then the other two mean nothing.
    std::uint64_t inodes_total = 0;
    std::uint64_t inodes_free = 0;
    std::uint64_t inodes_available = 0;
    bool operator==(const Space&) const = default;
};

Result<Space> space_of(int fd);

} // namespace thaw::reserve
