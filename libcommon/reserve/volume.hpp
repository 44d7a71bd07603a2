// SPDX-License-Identifier: MIT
#pragma once

// A volume is one mounted file system, however many subvolumes and bind mounts lead to it. Its
// reserve lives in the hidden directory kDirectory at the root of one of its mounts.
//
// All of it blocks (it reads /proc and /sys and touches the file system); no descriptor stays open.

#include "core/error.hpp"

#include <sys/types.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::reserve {

inline constexpr const char* kDirectory = ".thaw-reserve";

// What the file system itself lies on. Thin: blocks it counts as used may not exist below (sparse
// loop file, LVM thin pool), so a reserve has to be written, not only allocated.
enum class Backing { Solid, Thin };

struct Volume {
    // Stable key: the UUID; "TYPE-MAJOR-MINOR" for a file system without one. When two mounted
    // file systems have the same UUID (a cloned disk), the later one's id is "UUID-MAJOR-MINOR".
    // Only [0-9a-zA-Z-]. On the bus it becomes a path element with sd_bus_path_encode.
    std::string id;
    std::string uuid; // may be empty
    std::string type; // "ext4", "xfs", "btrfs", "tmpfs", ...
    // Mount point at whose root the reserve is or will be; the name for people.
    std::string mount_point;
    std::string source;                    // "/dev/sda2"
    std::vector<std::string> mount_points; // all of this file system, mount_point among them
    std::vector<std::string> paths;        // what find_volumes() was asked for
    Backing backing = Backing::Solid;
    bool read_only = false;
    bool has_reserve = false; // the directory exists (it may hold nothing)
    dev_t device = 0;         // of the superblock
    dev_t root_device = 0;    // st_dev of mount_point: proof later that it is still mounted there

    std::string directory() const; // mount_point + "/.thaw-reserve"
};

// The volume of a path. Of a path that does not exist: of its nearest existing ancestor. Where
// several mounts lead to the file system, one that has a reserve already is the home; otherwise
// the mount the path lies on.
Result<Volume> find_volume(const std::string& path);

struct PathProblem {
    std::string path;
    Error error;
};
struct FoundVolumes {
    std::vector<Volume> volumes; // in the order of the paths, each file system once
    std::vector<PathProblem> problems;
};
FoundVolumes find_volumes(std::span<const std::string> paths);

// Every local file system that is mounted and has a reserve directory: needs no configuration.
// Network, FUSE, automount and kernel file systems are not touched.
Result<std::vector<Volume>> find_reserves();

// The volume a person means: its id, UUID, a mount point, source device, or any path on it.
// ENOENT when none, EINVAL when the text is empty.
Result<Volume> pick_volume(std::span<const Volume> volumes, const std::string& text);

} // namespace thaw::reserve
