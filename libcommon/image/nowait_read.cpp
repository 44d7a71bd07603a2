// SPDX-License-Identifier: MIT
#include "image/nowait_read.hpp"

#include <linux/magic.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include <cerrno>

namespace thaw::image {

NowaitRead::NowaitRead(int fd) {
    std::byte byte{};
    const iovec one{.iov_base = &byte, .iov_len = 1};
    if (::preadv2(fd, &one, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN) {
        way_ = Way::Nowait;
        return;
    }
    struct statfs where{};
    const bool in_memory =
        ::fstatfs(fd, &where) == 0 && (where.f_type == TMPFS_MAGIC || where.f_type == RAMFS_MAGIC ||
                                       where.f_type == HUGETLBFS_MAGIC);
    if (in_memory) way_ = Way::Plain;
}

Result<bool> NowaitRead::read(int fd, std::span<std::byte> target, std::uint64_t offset) const {
    if (way_ == Way::Never) return false;
    const int flags = way_ == Way::Nowait ? RWF_NOWAIT : 0;
    for (;;) {
        const iovec whole{.iov_base = target.data(), .iov_len = target.size()};
        const ssize_t got = ::preadv2(fd, &whole, 1, static_cast<off_t>(offset), flags);
        if (got == static_cast<ssize_t>(target.size())) return true;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return false;
        if (got < 0) return fail_errno(errno, "read");
        if (way_ == Way::Plain) return fail(ENODATA, "the file is too short");
        return false; // the rest is not at hand, or not there at all: the slow way will tell
    }
}

bool NowaitRead::is_at_hand(int fd, std::uint64_t offset, std::uint64_t length) const {
    if (way_ != Way::Nowait) return way_ == Way::Plain;
    std::byte byte{};
    const iovec one{.iov_base = &byte, .iov_len = 1};
    const auto here = [&](std::uint64_t at) {
        return ::preadv2(fd, &one, 1, static_cast<off_t>(at), RWF_NOWAIT) == 1;
    };
    return here(offset) && (length <= 4096 || here(offset + length - 1));
}

} // namespace thaw::image
