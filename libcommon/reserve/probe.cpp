// SPDX-License-Identifier: MIT
#include "reserve/probe.hpp"

#include "core/fd.hpp"
#include "reserve/directory.hpp"
#include "reserve/retry.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace thaw::reserve {

namespace {

// Far enough from the start that no file system keeps the byte inside the inode or the metadata.
constexpr off_t kWriteAt = 64 << 10;
constexpr off_t kAllocateAt = 128 << 10;
constexpr off_t kAllocateBytes = 4096;

// The write asks whether data would be taken, fallocate whether blocks really are to be had. Both
// are answered at once, an fsync instead would wait for a disk that is busy being full. btrfs alone
// refuses to fallocate where it still writes.
int write_and_allocate(int file, const std::string& type) {
    const char byte = 1;
    if (retry([&] { return pwrite(file, &byte, 1, kWriteAt); }) < 0) return errno;
    if (type != "btrfs") {
        if (retry([&] { return fallocate(file, 0, kAllocateAt, kAllocateBytes); }) == 0) return 0;
        if (errno != EOPNOTSUPP && errno != ENOSYS) return errno;
    }
    return retry([&] { return fsync(file); }) < 0 ? errno : 0;
}

int try_write(int directory, const std::string& type) {
    const Fd file(retry([&] {
        return openat(directory, kProbeFile, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    }));
    if (!file) return errno;
    int error = write_and_allocate(file.get(), type);
    if (retry([&] { return ftruncate(file.get(), 0); }) < 0 && error == 0) error = errno;
    return error;
}

int try_create(int directory) {
    unlinkat(directory, kNewProbe, 0);
    const Fd file(retry([&] {
        return openat(
            directory, kNewProbe, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600
        );
    }));
    if (!file) return errno;
    unlinkat(directory, kNewProbe, 0);
    return 0;
}

} // namespace

Result<Probe> probe(const Volume& volume) {
    THAW_TRY(const Fd root, open_volume_root(volume));
    THAW_TRY(const Fd directory, open_reserve(root.get()));
    return Probe{
        .write_error = try_write(directory.get(), volume.type),
        .create_error = try_create(directory.get()),
    };
}

} // namespace thaw::reserve
