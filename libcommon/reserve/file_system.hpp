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

// mkdirat(); on btrfs a subvolume of its own, which snapshots of its surroundings leave out. EEXIST
// as mkdirat.
Result<> make_reserve_directory(int parent, const char* name, const std::string& type);
// A directory where a subvolume should be (restored from a backup, made by hand).
bool is_plain_directory_of_btrfs(int directory, const std::string& type);
// Files made in it from now on are neither copied on write nor compressed. Best effort: without it
// fallocate still reserves, and what is compressed shows in the extents.
void set_no_copy_on_write(int directory, const std::string& type);

// Whether statvfs shows freed blocks only after the transaction was committed.
bool frees_at_commit(const std::string& type);

// FITRIM over everything; trimmed bytes.
Result<std::uint64_t> trim(int fd);

} // namespace thaw::reserve
