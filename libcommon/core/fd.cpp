// SPDX-License-Identifier: MIT
#include "core/fd.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace thaw {

namespace {

Result<> change_flag(int fd, int get, int set, int flag, bool on, const char* name) {
    const int flags = fcntl(fd, get);
    if (flags < 0) return fail_errno(errno, "read the flags of descriptor {}", fd);
    const int wanted = on ? flags | flag : flags & ~flag;
    if (wanted != flags && fcntl(fd, set, wanted) < 0)
        return fail_errno(errno, "{} {} of descriptor {}", on ? "set" : "clear", name, fd);
    return {};
}

} // namespace

void Fd::reset(int fd) noexcept {
    const int old = std::exchange(fd_, fd);
    if (old < 0 || old == fd) return;
    const int saved_errno = errno;
    // EINTR: Linux has freed the number already, a second try could close a stranger's file. EBADF:
    // somebody else closed what we own, so the next close may hit a stranger's as well.
    THAW_INVARIANT(close(old) == 0 || errno != EBADF);
    errno = saved_errno;
}

Result<Fd> Fd::duplicate() const {
    const int copy = fcntl(fd_, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return fail_errno(errno, "duplicate descriptor {}", fd_);
    return Fd(copy);
}

Result<> set_cloexec(int fd, bool on) {
    return change_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on, "FD_CLOEXEC");
}

Result<> set_nonblocking(int fd, bool on) {
    return change_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on, "O_NONBLOCK");
}

} // namespace thaw
