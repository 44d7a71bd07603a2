// SPDX-License-Identifier: MIT
#pragma once

// The mounts of this process's mount namespace, as /proc/self/mountinfo tells them.

#include "core/error.hpp"

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::reserve {

struct Mount {
    std::uint64_t id = 0;
    // Of the superblock: the same for all subvolumes and bind mounts of one file system, also on
    // btrfs, where st_dev differs per subvolume.
    dev_t device = 0;
    std::string root;  // which directory of the file system is mounted
    std::string point; // where, canonical
    bool read_only = false;
    std::string type;
    std::string source;
};

// Lines it cannot read are left out: a kernel newer than us must not blind us.
std::vector<Mount> parse_mountinfo(std::string_view text);
Result<std::vector<Mount>> read_mounts();
// The mount an open descriptor lies on (statx mount id).
Result<std::uint64_t> mount_id_of(int fd);

} // namespace thaw::reserve
