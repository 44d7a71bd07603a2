// SPDX-License-Identifier: MIT
#pragma once

// Whether the file system takes data again: statvfs alone does not say (btrfs).

#include "reserve/volume.hpp"

#include <string>

namespace thaw::reserve {

struct Probe {
    // One byte in a new block of a file made when the reserve was laid. errno, 0 when it went
    // through, ENOENT when the file is not there.
    int write_error = 0;
    // Making a new file (it is removed again). errno, 0 when it went through.
    int create_error = 0;
    bool writes() const { return write_error == 0; }
    bool creates() const { return create_error == 0; }
};

// Waits for the disk on btrfs only. As the caller's user: root may have ext4's
// root pool.
Result<Probe> probe(const Volume& volume);

} // namespace thaw::reserve
