// SPDX-License-Identifier: MIT
#include "core/scm.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace thaw {

namespace {

// SCM_MAX_FD of the kernel: more in one message is EINVAL.
constexpr std::size_t kMaxFdsPerMessage = 253;

void take_descriptors(msghdr& header, std::vector<Fd>& fds) {
    for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            fds.emplace_back(fd);
        }
    }
}

Result<sockaddr_un> unix_address(const std::string& path) {
    if (path.empty()) return fail(EINVAL, "a socket needs a path");
    if (path.size() > kMaxSocketPath)
        return fail_errno(ENAMETOOLONG, "socket {}: over {} bytes", path, kMaxSocketPath);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size());
    return address;
}

Result<Fd> make_socket(int type) {
    const int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail_errno(errno, "make a socket");
    return Fd(fd);
}

const sockaddr* generic(const sockaddr_un& address) {
    return reinterpret_cast<const sockaddr*>(&address);
}

} // namespace

Result<ReceivedMessage>
receive_message(int socket, std::span<std::byte> buffer, std::size_t max_fds) {
    iovec part = {.iov_base = buffer.data(), .iov_len = buffer.size()};
    std::vector<std::max_align_t> control(
        (CMSG_SPACE(max_fds * sizeof(int)) + sizeof(std::max_align_t) - 1) /
        sizeof(std::max_align_t)
    );
    msghdr header = {};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (max_fds > 0) {
        header.msg_control = control.data();
        // CMSG_LEN, not CMSG_SPACE: the kernel would use the padding for one descriptor more.
        header.msg_controllen = CMSG_LEN(max_fds * sizeof(int));
    }
    ssize_t n = -1;
    do
        n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0) return fail_errno(errno, "receive a message");

    ReceivedMessage message;
    take_descriptors(header, message.fds);
    message.size = static_cast<std::size_t>(n);
    message.data_truncated = (header.msg_flags & MSG_TRUNC) != 0;
    message.control_truncated = (header.msg_flags & MSG_CTRUNC) != 0;
    message.end_of_stream = n == 0 && !buffer.empty() && message.fds.empty() &&
                            !message.data_truncated && !message.control_truncated;
    return message;
}

Result<std::size_t>
send_message(int socket, std::span<const std::byte> data, std::span<const int> fds) {
    // Nothing to carry the descriptors, and a receiver would take it for the end.
    if (data.empty()) return fail(EINVAL, "send an empty message");
    if (fds.size() > kMaxFdsPerMessage)
        return fail(EINVAL, "send {} descriptors: at most {}", fds.size(), kMaxFdsPerMessage);
    // sendmsg() does not write through it.
    iovec part = {.iov_base = const_cast<std::byte*>(data.data()), .iov_len = data.size()};
    alignas(cmsghdr) std::byte control[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))] = {};
    msghdr header = {};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
    }
    ssize_t n = -1;
    do
        n = sendmsg(socket, &header, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0) return fail_errno(errno, "send a message");
    return static_cast<std::size_t>(n);
}

Result<SocketPair> make_seqpacket_pair(bool nonblocking) {
    int ends[2] = {-1, -1};
    const int type = SOCK_SEQPACKET | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0);
    if (socketpair(AF_UNIX, type, 0, ends) < 0) return fail_errno(errno, "make a socket pair");
    return SocketPair{.first = Fd(ends[0]), .second = Fd(ends[1])};
}

Result<Fd> listen_unix(const std::string& path, int type, int backlog) {
    THAW_TRY(const sockaddr_un address, unix_address(path));
    THAW_TRY(Fd fd, make_socket(type | SOCK_NONBLOCK));
    // Only a socket is taken away; for anything else bind() says EADDRINUSE.
    struct stat st = {};
    if (lstat(path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode) && unlink(path.c_str()) < 0)
        return fail_errno(errno, "replace socket {}", path);
    if (bind(fd.get(), generic(address), sizeof(address)) < 0)
        return fail_errno(errno, "bind {}", path);
    if (listen(fd.get(), backlog) < 0) {
        const int error = errno;
        unlink(path.c_str());
        return fail_errno(error, "listen on {}", path);
    }
    return fd;
}

Result<Fd> connect_unix(const std::string& path, int type, bool nonblocking) {
    THAW_TRY(const sockaddr_un address, unix_address(path));
    THAW_TRY(Fd fd, make_socket(type | (nonblocking ? SOCK_NONBLOCK : 0)));
    int r = -1;
    // A UNIX connect() that a signal interrupts has not begun: it may be called again.
    do
        r = connect(fd.get(), generic(address), sizeof(address));
    while (r < 0 && errno == EINTR);
    if (r < 0) return fail_errno(errno, "connect to {}", path);
    return fd;
}

} // namespace thaw
