// SPDX-License-Identifier: MIT
#pragma once

// Checks of the descriptors that come with a point; parts of decode_point_reply().

#include "protocol/rootfs_control.hpp"

namespace thaw::protocol {

// Reads a sealed table into memory of ours. EBADMSG: not sealed, or not of that many entries.
Result<std::vector<PointEntry>> read_point_table(int fd, std::uint64_t entries);
// Blocks are read from regular files only: a device or pipe could hang the reader. An invalid Fd is
// fine.
Result<> check_point_file(const Fd& file);

} // namespace thaw::protocol
