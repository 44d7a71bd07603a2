// SPDX-License-Identifier: MIT
#pragma once

// What differs between file systems: identity, subvolumes, copy-on-write flags, trimming.

#include "core/fd.hpp"

#include <cstdint>
#include <string>

namespace thaw::reserve {

// Lower-case UUID of the file system `fd` lies on, asked from the file system itself (a sandboxed
// daemon cannot open block devices); then from `source` through libblkid; "" when it has none.
std::string uuid_of(int fd, const std::string& type, const std::string& source);

// mkdirat(); on btrfs a subvolume of its own, which snapshots of its surroundings leave out,
// without copy-on-write and compression for the files in it. EEXIST as mkdirat.
Result<> make_reserve_directory(int parent, const char* name, const std::string& type);

// Whether statvfs shows freed blocks only after the transaction was committed.
bool frees_at_commit(const std::string& type);

// FITRIM over everything; trimmed bytes.
Result<std::uint64_t> trim(int fd);

} // namespace thaw::reserve
