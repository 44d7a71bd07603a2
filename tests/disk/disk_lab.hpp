// SPDX-License-Identifier: MIT
#pragma once

// Real file systems for tests: a loop device over a memfd each. Everything ends with the process,
// however it ends: mounts live in its own mount namespace, loop devices let go when unmounted, and
// the images are memory.

#include "core/fd.hpp"
#include "reserve/space.hpp"
#include "reserve/volume.hpp"

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::test {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr uid_t kNobody = 65534;

// Enters the namespace, once per process. "" when disks can be made here; otherwise what is
// missing (not root, no loop devices): the caller skips.
std::string enter_disk_lab();

// Runs a program from PATH or /sbin; throws std::runtime_error with its output unless it exits 0.
void run(const std::vector<std::string>& command);

struct DiskOptions {
    std::string type;              // ext4, xfs, btrfs, tmpfs
    std::vector<std::string> mkfs; // more options of mkfs.TYPE
    std::string mount_options;     // as for mount -o
    std::uint64_t bytes = 256 * kMiB;
    // The image is a named file with holes on another file system, as a thinly provisioned disk is.
    bool sparse_backing = false;
    // A nameless, fully allocated file in this directory instead of memory.
    std::string image_directory = {};
};

// One mounted file system; unmounted by the destructor. Throws std::runtime_error.
class Disk {
public:
    explicit Disk(const DiskOptions& options);
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;
    ~Disk();

    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    const std::string& device() const { return device_; } // /dev/loopN
    std::string backing_file() const { return backing_; } // "" unless sparse_backing
    reserve::Volume volume() const;                       // throws
    void sync() const;                                    // this file system alone; throws
    reserve::Space space() const;                         // after sync()
    // False when something keeps it busy.
    bool unmount();

private:
    std::string path_;
    std::string device_;
    std::string backing_;
    bool mounted_ = false;
};

// Who writes.
struct Writer {
    uid_t uid = 0;
};

// Fills a file (made if need be) with 4 MiB, then 64 KiB, 4 KiB and 1-byte writes, each until it
// fails, and all of it again until syncing has set nothing free. Returns the errno of the last
// 1-byte write. As `writer`, in a child process.
int fill(const std::string& file, Writer writer = {});
// Makes empty files in `directory` until it fails; the errno. `made`, when given, counts them.
std::string inode_name(const std::string& directory, unsigned index); // long: it costs metadata
int fill_inodes(const std::string& directory, unsigned* made = nullptr, Writer writer = {});
// One byte at a place of its own (a new block), then fsync. errno or 0.
int write_byte(const std::string& existing_file, Writer writer = {});
// A new file with one byte, fsync, removed. errno or 0.
int create_with_byte(const std::string& file, Writer writer = {});
void make_file(const std::string& path, mode_t mode = 0666);

} // namespace thaw::test
