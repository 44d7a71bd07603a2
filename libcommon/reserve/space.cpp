// SPDX-License-Identifier: MIT
#include "reserve/space.hpp"

#include "reserve/retry.hpp"

#include <sys/statvfs.h>

namespace thaw::reserve {

Result<Space> space_of(int fd) {
    struct statvfs st{};
    if (retry([&] { return fstatvfs(fd, &st); }) < 0) return fail_errno(errno, "statvfs");
    const std::uint64_t unit = st.f_frsize != 0 ? st.f_frsize : st.f_bsize;
    return Space{
        .total = st.f_blocks * unit,
        .free = st.f_bfree * unit,
        .available = st.f_bavail * unit,
        .inodes_total = st.f_files,
        .inodes_free = st.f_ffree,
        .inodes_available = st.f_favail,
    };
}

} // namespace thaw::reserve
