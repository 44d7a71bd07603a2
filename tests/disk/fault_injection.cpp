// SPDX-License-Identifier: MIT
#include "fault_injection.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>

namespace thaw::test {

namespace {

Injection current;
unsigned seen = 0;

// Whether this call is to fail; ends the process when it is to die before it.
bool arrives(Call call) {
    if ((current.calls & bit(call)) == 0) return false;
    seen++;
    if (current.kill != Injection::Kill::No) {
        if (seen == current.nth && current.kill == Injection::Kill::Before) raise(SIGKILL);
        return false;
    }
    if (seen != current.nth && !(current.from_then_on && seen > current.nth)) return false;
    errno = current.error;
    return true;
}

void leaves(Call call) {
    if ((current.calls & bit(call)) != 0 && seen == current.nth &&
        current.kill == Injection::Kill::After)
        raise(SIGKILL);
}

} // namespace

std::string_view call_name(Call call) {
    static constexpr std::array<std::string_view, kCalls> kNames{
        "open",  "fallocate", "fsync", "syncfs", "unlink", "statvfs", "truncate", "rename",
        "write", "mkdir",     "stat",  "mode",   "ioctl",  "flock",   "list",
    };
    return kNames.at(static_cast<unsigned>(call));
}

Injecting::Injecting(const Injection& injection) {
    current = injection;
    seen = 0;
}

Injecting::~Injecting() {
    current = {};
}

bool Injecting::hit() const {
    return seen >= current.nth;
}

} // namespace thaw::test

using thaw::test::arrives;
using thaw::test::Call;
using thaw::test::leaves;

// A twin of each C library function under the name the linker gives it; the real one is behind
// __real_. Names with 64 are what _FILE_OFFSET_BITS=64 makes of the plain ones, those with two
// underscores what _FORTIFY_SOURCE makes of them.
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming,bugprone-macro-parentheses)
#define THAW_WRAP(CALL, TYPE, NAME, PARAMETERS, ARGUMENTS)                                         \
    extern "C" TYPE __real_##NAME PARAMETERS;                                                      \
    extern "C" TYPE __wrap_##NAME PARAMETERS;                                                      \
    extern "C" TYPE __wrap_##NAME PARAMETERS {                                                     \
        if (arrives(Call::CALL)) return static_cast<TYPE>(-1);                                     \
        const TYPE result = __real_##NAME ARGUMENTS;                                               \
        const int error = errno;                                                                   \
        leaves(Call::CALL);                                                                        \
        errno = error;                                                                             \
        return result;                                                                             \
    }

#define THAW_WRAP_OPENAT(NAME)                                                                     \
    extern "C" int __real_##NAME(int, const char*, int, ...);                                      \
    extern "C" int __wrap_##NAME(int, const char*, int, ...);                                      \
    extern "C" int __wrap_##NAME(int directory, const char* name, int flags, ...) {                \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;                     \
        va_end(more);                                                                              \
        if (arrives(Call::Open)) return -1;                                                        \
        const int result = __real_##NAME(directory, name, flags, mode);                            \
        const int error = errno;                                                                   \
        leaves(Call::Open);                                                                        \
        errno = error;                                                                             \
        return result;                                                                             \
    }

THAW_WRAP_OPENAT(openat)
THAW_WRAP_OPENAT(openat64)
THAW_WRAP(Open, int, __openat64_2, (int d, const char* n, int f), (d, n, f))
THAW_WRAP(Fallocate, int, fallocate, (int fd, int m, off_t o, off_t l), (fd, m, o, l))
THAW_WRAP(Fallocate, int, fallocate64, (int fd, int m, off_t o, off_t l), (fd, m, o, l))
THAW_WRAP(Fsync, int, fsync, (int fd), (fd))
THAW_WRAP(Syncfs, int, syncfs, (int fd), (fd))
THAW_WRAP(Unlink, int, unlinkat, (int d, const char* n, int f), (d, n, f))
THAW_WRAP(Statvfs, int, fstatvfs, (int fd, struct statvfs* s), (fd, s))
THAW_WRAP(Statvfs, int, fstatvfs64, (int fd, struct statvfs* s), (fd, s))
THAW_WRAP(Truncate, int, ftruncate, (int fd, off_t l), (fd, l))
THAW_WRAP(Truncate, int, ftruncate64, (int fd, off_t l), (fd, l))
THAW_WRAP(Rename, int, renameat, (int a, const char* b, int c, const char* d), (a, b, c, d))
THAW_WRAP(Write, ssize_t, write, (int fd, const void* b, size_t n), (fd, b, n))
THAW_WRAP(Write, ssize_t, pwrite, (int fd, const void* b, size_t n, off_t o), (fd, b, n, o))
THAW_WRAP(Write, ssize_t, pwrite64, (int fd, const void* b, size_t n, off_t o), (fd, b, n, o))
THAW_WRAP(Mkdir, int, mkdirat, (int d, const char* n, mode_t m), (d, n, m))
THAW_WRAP(Stat, int, fstat, (int fd, struct stat* s), (fd, s))
THAW_WRAP(Stat, int, fstat64, (int fd, struct stat* s), (fd, s))
THAW_WRAP(Stat, int, fstatat, (int d, const char* n, struct stat* s, int f), (d, n, s, f))
THAW_WRAP(Stat, int, fstatat64, (int d, const char* n, struct stat* s, int f), (d, n, s, f))
THAW_WRAP(Mode, int, fchmod, (int fd, mode_t m), (fd, m))
THAW_WRAP(Mode, int, fchown, (int fd, uid_t u, gid_t g), (fd, u, g))
THAW_WRAP(Flock, int, flock, (int fd, int o), (fd, o))

extern "C" int __real_ioctl(int, unsigned long, ...);
extern "C" int __wrap_ioctl(int, unsigned long, ...);
extern "C" int __wrap_ioctl(int fd, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void* argument = va_arg(more, void*);
    va_end(more);
    if (arrives(Call::Ioctl)) return -1;
    const int result = __real_ioctl(fd, request, argument);
    const int error = errno;
    leaves(Call::Ioctl);
    errno = error;
    return result;
}

extern "C" dirent* __real_readdir64(DIR*);
extern "C" dirent* __wrap_readdir64(DIR*);
extern "C" dirent* __wrap_readdir64(DIR* stream) {
    if (arrives(Call::List)) return nullptr;
    return __real_readdir64(stream);
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming,bugprone-macro-parentheses)
