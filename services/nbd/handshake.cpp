// SPDX-License-Identifier: MIT
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
#include "handshake.hpp"

#include <endian.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace thaw::nbd {

namespace {

constexpr std::uint64_t kGreeting = 0x4e42444d41474943;    // "NBDMAGIC"
constexpr std::uint64_t kOptionMagic = 0x49484156454f5054; // "IHAVEOPT"
constexpr std::uint64_t kReplyMagic = 0x0003e889045565a9;
constexpr std::uint16_t kFixedNewstyle = 1;
constexpr std::uint16_t kNoZeroes = 2;
constexpr std::uint32_t kGo = 7;
constexpr std::uint32_t kAck = 1;
constexpr std::uint32_t kInfo = 3;
constexpr std::uint32_t kErrorBit = 1U << 31;
constexpr std::uint16_t kInfoExport = 0;
// More than any server of ours says; one of somebody else's could say on and on.
constexpr std::uint32_t kLongestReply = 4096;
constexpr unsigned kMostReplies = 32;

struct [[gnu::packed]] ServerHello {
    std::uint64_t greeting;
    std::uint64_t magic;
    std::uint16_t flags;
};
struct [[gnu::packed]] ClientHello {
    std::uint32_t flags;
    std::uint64_t magic;
    std::uint32_t option;
    std::uint32_t length;
    std::uint32_t name_length;
    std::uint16_t info_requests;
};
struct [[gnu::packed]] OptionReply {
    std::uint64_t magic;
    std::uint32_t option;
    std::uint32_t type;
    std::uint32_t length;
};
struct [[gnu::packed]] ExportInfo {
    std::uint16_t type;
    std::uint64_t size;
    std::uint16_t flags;
};

Result<> receive(int socket, std::span<std::byte> buffer) {
    while (!buffer.empty()) {
        const auto got = ::recv(socket, buffer.data(), buffer.size(), MSG_WAITALL);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(errno, "NBD server");
        if (got == 0) return fail(EPROTO, "the NBD server hung up");
        buffer = buffer.subspan(static_cast<std::size_t>(got));
    }
    return {};
}

template <class T>
Result<T> receive(int socket) {
    T value;
    THAW_CHECK(receive(socket, std::as_writable_bytes(std::span(&value, 1))));
    return value;
}

Result<> send_hello(int socket, std::uint16_t server_flags) {
    const ClientHello hello{
        .flags = htobe32(std::uint32_t{kFixedNewstyle} | (server_flags & kNoZeroes)),
        .magic = htobe64(kOptionMagic),
        .option = htobe32(kGo),
        .length = htobe32(sizeof(ClientHello::name_length) + sizeof(ClientHello::info_requests)),
        .name_length = 0,
        .info_requests = 0,
    };
    const auto sent = ::send(socket, &hello, sizeof hello, MSG_NOSIGNAL);
    if (sent < 0) return fail_errno(errno, "NBD server");
    if (sent != sizeof hello) return fail(EPROTO, "the NBD server does not listen");
    return {};
}

Result<Export> read_export(std::span<const std::byte> body) {
    if (body.size() != sizeof(ExportInfo)) return fail(EPROTO, "NBD server: a broken export");
    ExportInfo info;
    std::ranges::copy(body, std::as_writable_bytes(std::span(&info, 1)).begin());
    return Export{.size = be64toh(info.size), .flags = be16toh(info.flags)};
}

// 0: the information that the export's size is in.
bool is_export(std::span<const std::byte> body) {
    return body.size() >= sizeof kInfoExport && body[0] == std::byte{kInfoExport} &&
           body[1] == std::byte{kInfoExport};
}

} // namespace

Result<Export> shake_hands(int socket) {
    THAW_TRY(const auto server, receive<ServerHello>(socket));
    const std::uint16_t flags = be16toh(server.flags);
    if (be64toh(server.greeting) != kGreeting || be64toh(server.magic) != kOptionMagic ||
        (flags & kFixedNewstyle) == 0)
        return fail(EPROTO, "not an NBD server of the fixed newstyle protocol");
    THAW_CHECK(send_hello(socket, flags));

    Export result;
    for (unsigned count = 0; count < kMostReplies; count++) {
        THAW_TRY(const auto reply, receive<OptionReply>(socket));
        const std::uint32_t length = be32toh(reply.length);
        const std::uint32_t type = be32toh(reply.type);
        if (be64toh(reply.magic) != kReplyMagic || be32toh(reply.option) != kGo ||
            length > kLongestReply)
            return fail(EPROTO, "NBD server: a broken reply");
        std::vector<std::byte> body(length);
        THAW_CHECK(receive(socket, body));
        if ((type & kErrorBit) != 0)
            return fail(
                EPROTO, "the NBD server refuses: error {} {}", type & ~kErrorBit,
                std::string_view(reinterpret_cast<const char*>(body.data()), body.size())
            );
        if (type == kInfo && is_export(body)) {
            THAW_TRY(result, read_export(body));
        } else if (type == kAck) {
            if (result.size == 0) return fail(EPROTO, "NBD server: an export of no size");
            return result;
        }
    }
    return fail(EPROTO, "NBD server: too many replies");
}

} // namespace thaw::nbd
