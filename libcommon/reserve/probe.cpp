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
constexpr off_t kProbeOffset = 64 << 10;

int try_write(int directory) {
    const Fd file(retry([&] {
        return openat(directory, kProbeFile, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    }));
    if (!file) return errno;
    int error = 0;
    const char byte = 1;
    if (retry([&] { return pwrite(file.get(), &byte, 1, kProbeOffset); }) < 0) error = errno;
    // Delayed allocation may only fail here.
    if (error == 0 && retry([&] { return fsync(file.get()); }) < 0) error = errno;
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
    const int error = retry([&] { return fsync(file.get()); }) < 0 ? errno : 0;
    unlinkat(directory, kNewProbe, 0);
    return error;
}

} // namespace

Result<Probe> probe(const Volume& volume) {
    THAW_TRY(const Fd root, open_volume_root(volume));
    THAW_TRY(const Fd directory, open_reserve(root.get()));
    return Probe{
        .write_error = try_write(directory.get()),
        .create_error = try_create(directory.get()),
    };
}

} // namespace thaw::reserve
