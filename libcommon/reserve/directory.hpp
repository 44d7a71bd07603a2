// SPDX-License-Identifier: MIT
#pragma once

// The reserve directory: its names, opening it safely, its lock. Inside the library only.

#include "core/fd.hpp"
#include "core/text.hpp"
#include "reserve/volume.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::reserve {

inline constexpr const char* kTextFile = "README";
inline constexpr const char* kProbeFile = "probe";
inline constexpr const char* kNewProbe = ".probe-new";
inline constexpr const char* kFreshSmall = ".fresh-small"; // text or probe file being made

std::string chunk_name(unsigned index); // "chunk-0007"
std::string fresh_name(unsigned index); // ".fresh-0007": being laid
std::optional<unsigned> chunk_index(std::string_view name);
bool is_fresh_name(std::string_view name);

// The root of the mount the reserve is on. ESTALE when another file system is there now.
Result<Fd> open_volume_root(const Volume& volume);
// The reserve directory below it. ENOENT; EPERM when it belongs to somebody else or others may
// write to it; ELOOP/ENOTDIR when it is no directory.
Result<Fd> open_reserve(int volume_root);

struct Entries {
    std::vector<unsigned> chunks;   // ascending
    std::vector<std::string> fresh; // leftovers, unless somebody holds the lock
};
Result<Entries> list_reserve(int directory);

// flock() for as long as the descriptor stays open. false: somebody held it all the time.
Result<bool> lock_reserve(int directory, Microseconds patience);

// Truncates, then unlinks: frees the blocks even when other descriptors or names lead to the file.
// Only regular files are opened, without following links. Blocks freed; ENOENT is an error too.
Result<std::uint64_t> remove_chunk(int directory, const std::string& name);

} // namespace thaw::reserve
