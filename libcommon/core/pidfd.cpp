// SPDX-License-Identifier: MIT
#include "core/pidfd.hpp"

#include "core/file.hpp"
#include "core/kernel_compat.hpp"
#include "core/text.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace thaw {

Result<Fd> pidfd_open(pid_t pid) {
    // Always close-on-exec.
    const long fd = syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) return fail_errno(errno, "open process {}", pid);
    return Fd(static_cast<int>(fd));
}

bool pidfd_has_exited(int pidfd) {
    pollfd entry = {.fd = pidfd, .events = POLLIN, .revents = 0};
    int n = 0;
    do
        n = poll(&entry, 1, 0);
    while (n < 0 && errno == EINTR);
    // Since Linux 6.9 a reaped process also shows as POLLHUP.
    return n == 1 && (entry.revents & (POLLIN | POLLHUP)) != 0;
}

Result<> pidfd_send_signal(int pidfd, int signal) {
    if (syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) < 0)
        return fail_errno(errno, "send signal {}", signal);
    return {};
}

Result<pid_t> pidfd_to_pid(int pidfd) {
    // Our own descriptor's page: ProtectProc= hides other processes, not this.
    const std::string path = fmt::format("/proc/self/fdinfo/{}", pidfd);
    THAW_TRY(const std::string info, read_file(path, 65536));
    constexpr std::string_view kKey = "\nPid:";
    const auto start = info.find(kKey);
    if (start == std::string::npos)
        return fail(EBADF, "descriptor {} does not stand for a process", pidfd);
    std::string_view word = std::string_view(info).substr(start + kKey.size());
    word = trim(word.substr(0, word.find('\n')));
    if (word == "-1") return fail_errno(ESRCH, "find the process of descriptor {}", pidfd);
    auto pid = parse_unsigned(word, INT32_MAX);
    if (!pid) return fail(EIO, "{}: bad pid \"{}\"", path, word);
    // 0: it lives in a pid namespace that we cannot see into.
    if (*pid == 0) return fail_errno(EREMOTE, "find the process of descriptor {}", pidfd);
    return static_cast<pid_t>(*pid);
}

namespace {

Result<Fd> peer_pidfd(int socket, const ucred& credentials) {
    int fd = -1;
    socklen_t size = sizeof(fd);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &size) == 0) return Fd(fd);
    // EINVAL and ENODATA: there is no such process any more (the word depends on the kernel).
    if (errno == EINVAL || errno == ENODATA || errno == ESRCH)
        return fail_errno(ESRCH, "get the peer of a socket");
    if (errno != ENOPROTOOPT) return fail_errno(errno, "get the peer of a socket");
    // Before 6.5. The pid may have been recycled since connect(); nothing tells. Who must not be
    // fooled compares what the process says with the unit it should be in.
    if (credentials.pid <= 0) return fail_errno(ESRCH, "get the peer of a socket");
    return pidfd_open(credentials.pid);
}

} // namespace

Result<Peer> socket_peer(int socket) {
    ucred credentials = {};
    socklen_t size = sizeof(credentials);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
        return fail_errno(errno, "get the credentials of a socket's peer");
    THAW_TRY(Fd pidfd, peer_pidfd(socket, credentials));
    THAW_TRY(const pid_t pid, pidfd_to_pid(pidfd.get()));
    return Peer{.pidfd = std::move(pidfd), .pid = pid, .uid = credentials.uid};
}

} // namespace thaw
