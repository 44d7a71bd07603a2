// SPDX-License-Identifier: MIT
#pragma once

// Messages with descriptors over UNIX sockets.

#include "core/fd.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace thaw {

struct ReceivedMessage {
    std::size_t size = 0;        // bytes written to the buffer; 0 with `end_of_stream`
    std::vector<Fd> fds;         // all descriptors that came, owned, close-on-exec
    bool end_of_stream = false;  // the peer closed
    bool data_truncated = false; // MSG_TRUNC
    bool control_truncated =
        false; // MSG_CTRUNC: descriptors were lost; treat the message as hostile
};

// One recvmsg(). EAGAIN when nothing is there on a non-blocking socket. Descriptors beyond
// `max_fds` are dropped by the kernel and show as control_truncated.
Result<ReceivedMessage>
receive_message(int socket, std::span<std::byte> buffer, std::size_t max_fds);

// One sendmsg() with MSG_NOSIGNAL; EAGAIN when the socket is full. A stream socket may take only a
// part: the returned count says how much (descriptors travel with the first byte). EINVAL for an
// empty message, which a receiver could not tell from the end.
Result<std::size_t>
send_message(int socket, std::span<const std::byte> data, std::span<const int> fds = {});

// socketpair(AF_UNIX, SOCK_SEQPACKET | flags); both ends close-on-exec.
struct SocketPair {
    Fd first;
    Fd second;
};
Result<SocketPair> make_seqpacket_pair(bool nonblocking);

// Longest path a UNIX socket address takes (sun_path without the final NUL).
inline constexpr std::size_t kMaxSocketPath = 107;
// Binds and listens on a fresh socket at `path` (an existing socket file there is replaced).
// `type` is SOCK_STREAM or SOCK_SEQPACKET; non-blocking, close-on-exec.
Result<Fd> listen_unix(const std::string& path, int type, int backlog);
Result<Fd> connect_unix(const std::string& path, int type, bool nonblocking);

} // namespace thaw
