// SPDX-License-Identifier: MIT
// The journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram per entry. The
// socket is made at the first entry, which is before the sandbox, and outlives restarts of journald
// because it is never connected.

#include "core/fd.hpp"
#include "log/journal_backend.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <cstring>

namespace thaw {

namespace {

constexpr char kJournal[] = "/run/systemd/journal/socket";

// A value with a line break goes as KEY, line break, 64-bit length, value.
void append(std::string& datagram, const std::string& entry) {
    const auto equals = entry.find('=');
    if (equals == std::string::npos || entry.find('\n') == std::string::npos) {
        datagram += entry;
    } else {
        const std::uint64_t length =
            entry.size() - equals - 1; // little-endian, as x86 and arm64 are
        datagram.append(entry, 0, equals);
        datagram += '\n';
        datagram.append(reinterpret_cast<const char*>(&length), sizeof length);
        datagram.append(entry, equals + 1);
    }
    datagram += '\n';
}

} // namespace

bool send_to_journal(std::span<const std::string> entries) {
    static const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return false;
    std::string datagram;
    for (const auto& entry : entries)
        append(datagram, entry);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, kJournal, sizeof kJournal);
    iovec part{.iov_base = datagram.data(), .iov_len = datagram.size()};
    msghdr message{};
    message.msg_name = &address;
    message.msg_namelen = sizeof address;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    return ::sendmsg(socket.get(), &message, MSG_NOSIGNAL) >= 0;
}

} // namespace thaw
