// SPDX-License-Identifier: MIT
#include "protocol/rootfs_control.hpp"

#include "core/scm.hpp"
#include "core/text.hpp"
#include "protocol/rootfs_table.hpp"

#include <algorithm>
#include <cstring>

namespace thaw::protocol {

namespace {

struct RootfsHeader {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t type;
    std::uint32_t size; // of the whole message
    std::uint32_t fd_count;
};
static_assert(sizeof(RootfsHeader) == 16);

constexpr std::uint32_t kHasMemory = 1U << 0;
constexpr std::uint32_t kHasDisk = 1U << 1;

struct WirePoint {
    std::uint64_t size;
    std::uint32_t block_size;
    std::uint32_t base_kind;
    std::uint64_t base_size;
    std::uint8_t base_id[16];
    std::uint64_t epoch;
    std::uint64_t entries;
    std::uint32_t parts; // kHasMemory, kHasDisk
    std::uint32_t reserved;
};
static_assert(sizeof(WirePoint) == 64);

struct WireFailure {
    std::int32_t errno_value;
    std::uint16_t name_size; // the name follows, then the text
    std::uint16_t text_size;
};
static_assert(sizeof(WireFailure) == 8);
constexpr std::size_t kMaxName = 255;
constexpr std::size_t kMaxText = 4096;

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

template <class Body>
std::span<const std::byte> bytes_of_body(const Body& body) {
    return std::as_bytes(std::span(&body, 1));
}

RootfsMessage build(
    RootfsType type, std::initializer_list<std::span<const std::byte>> parts, std::vector<int> fds
) {
    RootfsMessage message;
    std::size_t size = sizeof(RootfsHeader);
    for (const auto part : parts)
        size += part.size();
    const RootfsHeader header{
        .magic = kRootfsMagic,
        .version = kRootfsVersion,
        .type = static_cast<std::uint16_t>(type),
        .size = static_cast<std::uint32_t>(size),
        .fd_count = static_cast<std::uint32_t>(fds.size()),
    };
    const auto head = bytes_of_body(header);
    message.data.assign(head.begin(), head.end());
    for (const auto part : parts)
        message.data.insert(message.data.end(), part.begin(), part.end());
    message.fds = std::move(fds);
    return message;
}

Result<RootfsType> check_header(std::span<const std::byte> data, const std::vector<Fd>& fds) {
    RootfsHeader header{};
    if (data.size() < sizeof header) return fail(EBADMSG, "rootfs message is too short");
    std::memcpy(&header, data.data(), sizeof header);
    if (header.magic != kRootfsMagic) return fail(EBADMSG, "rootfs message: bad magic");
    if (header.version != kRootfsVersion)
        return fail(EPROTONOSUPPORT, "rootfs message of version {}", header.version);
    if (header.size != data.size() || header.fd_count != fds.size())
        return fail(EBADMSG, "rootfs message: size or descriptor count does not match");
    return static_cast<RootfsType>(header.type);
}

// What an Error keeps of a name must be static: only names known here survive.
std::string_view known_name(std::string_view name) {
    for (const auto known :
         {rootfs_error::kBusy, rootfs_error::kPointFailed, rootfs_error::kBadRequest,
          rootfs_error::kNotRunning})
        if (known == name) return known;
    return {};
}

// The Error that a Failed message stands for.
Error decode_failure(std::span<const std::byte> body) {
    WireFailure wire{};
    Error damaged(EBADMSG, "rootfs message: a failure of the wrong size");
    if (body.size() < sizeof wire) return damaged;
    std::memcpy(&wire, body.data(), sizeof wire);
    body = body.subspan(sizeof wire);
    if (wire.name_size > kMaxName || wire.text_size > kMaxText || wire.errno_value <= 0 ||
        body.size() != std::size_t{wire.name_size} + wire.text_size)
        return damaged;
    const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
    const std::string_view name = text.substr(0, wire.name_size);
    std::string said(text.substr(wire.name_size));
    // It reaches a terminal.
    if (!is_valid_utf8(said)) said = "the overlay's message is not UTF-8";
    std::erase_if(said, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; });
    return {known_name(name), wire.errno_value, std::move(said)};
}

// The body of a message that must be of `wanted`; a Failed one becomes its Error.
Result<std::span<const std::byte>>
reply_body(std::span<const std::byte> data, const std::vector<Fd>& fds, RootfsType wanted) {
    THAW_TRY(const auto type, check_header(data, fds));
    const auto body = data.subspan(sizeof(RootfsHeader));
    if (type == RootfsType::Failed) return std::unexpected(decode_failure(body));
    if (type != wanted)
        return fail(EBADMSG, "rootfs message of unexpected type {}", static_cast<int>(type));
    return body;
}

} // namespace

RootfsMessage encode_rootfs_request(RootfsType request) {
    return build(request, {}, {});
}

Result<RootfsType> decode_rootfs_request(std::span<const std::byte> data, std::vector<Fd> fds) {
    const auto given = std::move(fds); // and closed
    THAW_TRY(const auto type, check_header(data, given));
    if (type != RootfsType::Status && type != RootfsType::Point)
        return fail(EBADMSG, "rootfs request of unknown type {}", static_cast<int>(type));
    if (data.size() != sizeof(RootfsHeader) || !given.empty())
        return fail(EBADMSG, "rootfs request with a body or descriptors");
    return type;
}

RootfsMessage encode_status_reply(const RootfsStatus& status) {
    const std::string json = format_rootfs_status(status);
    return build(RootfsType::StatusReply, {bytes_of(json)}, {});
}

RootfsMessage encode_point_reply(const PointView& point) {
    WirePoint wire{
        .size = point.geometry.size,
        .block_size = point.geometry.block_size,
        .base_kind = static_cast<std::uint32_t>(point.base.kind),
        .base_size = point.base.size,
        .base_id = {},
        .epoch = point.epoch,
        .entries = point.entries,
        .parts = (point.memory >= 0 ? kHasMemory : 0) | (point.disk >= 0 ? kHasDisk : 0),
        .reserved = 0,
    };
    std::memcpy(wire.base_id, point.base.id.data(), sizeof wire.base_id);
    std::vector<int> fds{point.table};
    if (point.memory >= 0) fds.push_back(point.memory);
    if (point.disk >= 0) fds.push_back(point.disk);
    return build(RootfsType::PointReply, {bytes_of_body(wire)}, std::move(fds));
}

RootfsMessage encode_rootfs_failure(std::string_view name, int errno_value, std::string_view text) {
    name = name.substr(0, kMaxName);
    text = text.substr(0, kMaxText);
    const WireFailure wire{
        .errno_value = errno_value > 0 ? errno_value : EIO,
        .name_size = static_cast<std::uint16_t>(name.size()),
        .text_size = static_cast<std::uint16_t>(text.size()),
    };
    return build(RootfsType::Failed, {bytes_of_body(wire), bytes_of(name), bytes_of(text)}, {});
}

Result<RootfsStatus> decode_status_reply(std::span<const std::byte> data, std::vector<Fd> fds) {
    const auto given = std::move(fds); // and closed
    THAW_TRY(const auto body, reply_body(data, given, RootfsType::StatusReply));
    if (!given.empty()) return fail(EBADMSG, "rootfs status with descriptors");
    return parse_rootfs_status({reinterpret_cast<const char*>(body.data()), body.size()});
}

Result<PointReply> decode_point_reply(std::span<const std::byte> data, std::vector<Fd> fds) {
    THAW_TRY(const auto body, reply_body(data, fds, RootfsType::PointReply));
    WirePoint wire{};
    if (body.size() != sizeof wire) return fail(EBADMSG, "rootfs point of the wrong size");
    std::memcpy(&wire, body.data(), sizeof wire);
    const bool has_memory = (wire.parts & kHasMemory) != 0;
    const bool has_disk = (wire.parts & kHasDisk) != 0;
    if (wire.parts > (kHasMemory | kHasDisk) || wire.reserved != 0 ||
        wire.base_kind > static_cast<std::uint32_t>(BaseKind::Content) ||
        wire.base_size > kMaxDiskSize)
        return fail(EBADMSG, "rootfs point: values out of range");
    if (fds.size() != 1U + (has_memory ? 1U : 0U) + (has_disk ? 1U : 0U))
        return fail(EBADMSG, "rootfs point with {} descriptors", fds.size());

    PointReply reply;
    reply.geometry = {.size = wire.size, .block_size = wire.block_size};
    THAW_CHECK(check_geometry(reply.geometry));
    reply.base.kind = static_cast<BaseKind>(wire.base_kind);
    reply.base.size = wire.base_size;
    std::memcpy(reply.base.id.data(), wire.base_id, sizeof wire.base_id);
    reply.epoch = wire.epoch;
    THAW_TRY(reply.table, read_point_table(fds[0].get(), wire.entries));
    THAW_CHECK(check_point_table(reply.table, reply.geometry));
    if (has_memory) reply.memory = std::move(fds[1]);
    if (has_disk) reply.disk = std::move(fds[has_memory ? 2 : 1]);
    for (const auto& entry : reply.table)
        if ((entry.kind == PointKind::Memory && !has_memory) ||
            (entry.kind == PointKind::Disk && !has_disk))
            return fail(EBADMSG, "rootfs point: blocks in a file that did not come along");
    THAW_CHECK(check_point_file(reply.memory));
    THAW_CHECK(check_point_file(reply.disk));
    return reply;
}

Result<> send_rootfs(int socket, const RootfsMessage& message) {
    THAW_TRY(const std::size_t sent, send_message(socket, message.data, message.fds));
    if (sent != message.data.size()) return fail(EIO, "rootfs message was cut");
    return {};
}

Result<RootfsType> receive_rootfs_request(int socket) {
    std::array<std::byte, 256> buffer;
    THAW_TRY(ReceivedMessage received, receive_message(socket, buffer, kRootfsMaxFds));
    if (received.end_of_stream) return fail(ECONNRESET, "the connection was closed");
    if (received.data_truncated || received.control_truncated)
        return fail(EBADMSG, "rootfs request is too long");
    return decode_rootfs_request(std::span(buffer).first(received.size), std::move(received.fds));
}

} // namespace thaw::protocol
