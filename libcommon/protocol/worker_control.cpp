// SPDX-License-Identifier: MIT
#include "protocol/worker_control.hpp"

#include "core/scm.hpp"
#include "protocol/worker_control_wire.hpp"

#include <sys/socket.h>

#include <array>
#include <cstring>

namespace thaw::protocol {

namespace {

// Appends the optional descriptors that are there and says which.
std::uint32_t add_parts(std::vector<int>& fds, const HelloView& view) {
    std::uint32_t word = 0;
    const auto add = [&](int fd, std::uint32_t flag) {
        if (fd < 0) return;
        fds.push_back(fd);
        word |= flag;
    };
    add(view.map, kHasMap);
    add(view.working_set, kHasWorkingSet);
    add(view.layers, kHasLayers);
    if (view.layers >= 0) {
        fds.insert(fds.end(), view.bases.begin(), view.bases.end());
        word |= static_cast<std::uint32_t>(view.bases.size()) << kBasesShift;
    }
    add(view.chunk_map, kHasChunkMap);
    return word;
}

template <class Body>
EncodedMessage build(ControlType type, const Body& body, std::vector<int> fds) {
    EncodedMessage message;
    const WireHeader header{
        .magic = kControlMagic,
        .version = kControlVersion,
        .type = static_cast<std::uint16_t>(type),
        .size = sizeof(WireHeader) + sizeof(Body),
        .fd_count = static_cast<std::uint32_t>(fds.size()),
    };
    message.data.resize(header.size);
    std::memcpy(message.data.data(), &header, sizeof header);
    std::memcpy(message.data.data() + sizeof header, &body, sizeof body);
    message.fds = std::move(fds);
    return message;
}

} // namespace

EncodedMessage encode(const StartMessage& message) {
    std::vector<int> fds{
        message.session.get(), message.uffd.get(), message.vmm_pidfd.get(), message.memory.get()
    };
    HelloView optional{
        .map = message.map.get(),
        .working_set = message.working_set.get(),
        .layers = message.layers.get(),
        .chunk_map = message.chunk_map.get(),
    };
    for (const Fd& base : message.bases)
        optional.bases.push_back(base.get());
    const std::uint32_t parts = add_parts(fds, optional);
    for (const Fd& spare : message.spares)
        fds.push_back(spare.get());
    const WireStart wire{
        .parts = parts, .spares = static_cast<std::uint32_t>(message.spares.size())
    };
    return build(ControlType::Start, wire, std::move(fds));
}

EncodedMessage encode(const WelcomeMessage& message) {
    std::vector<int> fds;
    fds.reserve(message.spares.size());
    for (const Fd& spare : message.spares)
        fds.push_back(spare.get());
    const WireWelcome wire{
        .spares = static_cast<std::uint32_t>(message.spares.size()), .reserved = 0
    };
    return build(ControlType::Welcome, wire, std::move(fds));
}

EncodedMessage encode(const ReadyMessage& message) {
    const WireReady wire{
        .generation = message.generation,
        .engine = static_cast<std::uint32_t>(message.engine),
        .memory_lock = static_cast<std::uint32_t>(message.memory_lock),
    };
    return build(ControlType::Ready, wire, {});
}

EncodedMessage encode(const HelloView& message) {
    std::vector<int> fds{message.session, message.uffd, message.vmm_pidfd, message.memory};
    WireHello wire{};
    std::memcpy(wire.session_id, message.session_id.data(), sizeof wire.session_id);
    wire.parts = add_parts(fds, message);
    return build(ControlType::Hello, wire, std::move(fds));
}

EncodedMessage encode(const FailedMessage& message) {
    const WireFailed wire{
        .reason = static_cast<std::uint32_t>(message.reason),
        .errno_value = message.errno_value,
        .page_offset = message.page_offset,
        .fatal = message.fatal ? 1U : 0U,
        .reserved = 0,
    };
    return build(ControlType::Failed, wire, {});
}

EncodedMessage encode(const AttendedMessage& message) {
    const WireAttended wire{
        .serial = message.serial,
        .quiesced = message.quiesced ? 1U : 0U,
        .tracking = static_cast<std::uint32_t>(message.tracking),
        .reserved = 0,
    };
    return build(ControlType::Attended, wire, {});
}

EncodedMessage encode(const ReplayEndedMessage& message) {
    const WireReplayEnded wire{
        .state = static_cast<std::uint32_t>(message.state),
        .reason = static_cast<std::uint32_t>(message.reason),
    };
    return build(ControlType::ReplayEnded, wire, {});
}

EncodedMessage encode(const WantChunkMessage& message) {
    const WireChunk wire{
        .chunk = message.chunk,
        .value = static_cast<std::int32_t>(message.pages),
        .ahead = message.ahead,
        .reserved = 0,
    };
    return build(ControlType::WantChunk, wire, {});
}

EncodedMessage encode(const ChunkLandedMessage& message) {
    const WireChunk wire{.chunk = message.chunk, .value = 0, .ahead = 0, .reserved = 0};
    return build(ControlType::ChunkLanded, wire, {});
}

EncodedMessage encode(const ChunkFailedMessage& message) {
    const WireChunk wire{
        .chunk = message.chunk, .value = message.errno_value, .ahead = 0, .reserved = 0
    };
    return build(ControlType::ChunkFailed, wire, {});
}

EncodedMessage encode(const ChunksMessage& message) {
    return build(
        ControlType::Chunks, WireEmpty{},
        {message.data.get(), message.map.get(), message.index.get(), message.uses.get()}
    );
}

EncodedMessage encode(ControlType bare) {
    return build(bare, WireEmpty{}, {});
}

Result<> send_control(int socket, const EncodedMessage& message) {
    THAW_TRY(const std::size_t sent, send_message(socket, message.data, message.fds));
    if (sent != message.data.size()) return fail(EIO, "control message was cut");
    return {};
}

Result<ControlMessage> receive_control(int socket) {
    std::array<std::byte, kControlMaxSize> buffer;
    THAW_TRY(ReceivedMessage received, receive_message(socket, buffer, kControlMaxFds));
    if (received.end_of_stream) return fail(ECONNRESET, "the control channel was closed");
    if (received.data_truncated || received.control_truncated)
        return fail(EBADMSG, "control message is too long");
    return decode(std::span(buffer).first(received.size), std::move(received.fds));
}

Result<std::vector<Fd>> make_spare_sockets(std::size_t count) {
    std::vector<Fd> sockets;
    while (sockets.size() < count) {
        Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!fd) return fail_errno(errno, "make a spare socket");
        sockets.push_back(std::move(fd));
    }
    return sockets;
}

} // namespace thaw::protocol
