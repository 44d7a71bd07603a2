// SPDX-License-Identifier: MIT
#pragma once

// Files, opened once and safely. Every open is O_CLOEXEC. Errors carry errno and the path.

#include "core/fd.hpp"

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace thaw {

Result<Fd> open_file(const std::string& path, int flags, mode_t mode = 0);
// openat() below `directory`; `name` may be any relative path. No symlink protection.
Result<Fd> open_at(int directory, const std::string& name, int flags, mode_t mode = 0);
// openat2() that never leaves `directory`, follows no symlink and no magic link. ELOOP/EXDEV say
// so.
Result<Fd> open_beneath(int directory, const std::string& name, int flags, mode_t mode = 0);

// Whole file, at most `limit` bytes (EFBIG beyond).
Result<std::string> read_file(const std::string& path, std::size_t limit = 1 << 20);
Result<std::string> read_fd(int fd, std::size_t limit = 1 << 20);
// pread() of exactly buffer.size() bytes; a short file is EIO "truncated", never zeros.
Result<> pread_exact(int fd, std::span<std::byte> buffer, std::uint64_t offset);
Result<> write_all(int fd, std::span<const std::byte> data);
Result<> write_all(int fd, std::string_view data);

// Writes a temporary file beside `path`, optionally fsyncs file and directory, renames it over. The
// file gets exactly `mode`, whatever the umask. Nothing is left behind on failure.
enum class Durability { Cache, Disk };
Result<> write_file_atomic(
    const std::string& path, std::string_view content, mode_t mode = 0644,
    Durability durability = Durability::Cache
);
Result<> write_file_atomic_at(
    int directory, const std::string& name, std::string_view content, mode_t mode = 0644,
    Durability durability = Durability::Cache
);

// The folder that a path's last part is in; "." for a path without one.
std::string folder_of(const std::string& path);
// Like mkdir -p; the umask applies, folders that exist are left as they are.
Result<> make_directories(const std::string& path, mode_t mode = 0755);
// unlink() that is content when the file is not there.
Result<> remove_if_exists(const std::string& path);
// Removes a directory tree (or a file) without following symlinks and without entering other
// mounts; content when it is not there. ELOOP beyond 64 levels.
Result<> remove_tree(const std::string& path);

// What makes an open file the same file later (a path does not).
struct FileIdentity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    std::int64_t mtime_ns = 0;
    bool operator==(const FileIdentity&) const = default;
};
Result<FileIdentity> identify(int fd);

} // namespace thaw
