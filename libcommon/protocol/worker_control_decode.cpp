// SPDX-License-Identifier: MIT
#include "protocol/chunk_map.hpp"
#include "protocol/worker_control.hpp"
#include "protocol/worker_control_wire.hpp"

#include <bit>
#include <cstring>

namespace thaw::protocol {

namespace {

// The optional descriptors of Start and Hello.
struct Parts {
    std::uint32_t flags = 0;
    std::size_t bases = 0;

    std::size_t count() const { return static_cast<std::size_t>(std::popcount(flags)) + bases; }
};

Result<Parts> parse_parts(std::uint32_t word, const char* what) {
    const Parts parts{.flags = word & 0xff, .bases = word >> kBasesShift};
    const bool layered = (parts.flags & kHasLayers) != 0;
    if (parts.flags > kAllParts || parts.bases > kMaxBases || layered != (parts.bases > 0))
        return fail(EBADMSG, "{}: counts out of range", what);
    return parts;
}

// `message` is a StartMessage or a HelloMessage.
template <class Message>
void take_parts(const Parts& parts, std::vector<Fd>& fds, Message& message) {
    std::size_t next = kFixedFds;
    if ((parts.flags & kHasMap) != 0) message.map = std::move(fds[next++]);
    if ((parts.flags & kHasWorkingSet) != 0) message.working_set = std::move(fds[next++]);
    if ((parts.flags & kHasLayers) != 0) message.layers = std::move(fds[next++]);
    for (std::size_t i = 0; i < parts.bases; ++i)
        message.bases.push_back(std::move(fds[next++]));
    if ((parts.flags & kHasChunkMap) != 0) message.chunk_map = std::move(fds[next++]);
}

template <class Body>
Result<Body> take_body(std::span<const std::byte> data) {
    Body body;
    if (data.size() != sizeof(WireHeader) + sizeof body)
        return fail(EBADMSG, "control message of {} bytes has the wrong size", data.size());
    std::memcpy(&body, data.data() + sizeof(WireHeader), sizeof body);
    return body;
}

Result<> expect_fds(const std::vector<Fd>& fds, std::size_t count) {
    if (fds.size() == count) return {};
    return fail(EBADMSG, "control message with {} descriptors instead of {}", fds.size(), count);
}

std::vector<Fd> take_rest(std::vector<Fd>& fds, std::size_t from) {
    std::vector<Fd> rest;
    rest.reserve(fds.size());
    for (std::size_t i = from; i < fds.size(); ++i)
        rest.push_back(std::move(fds[i]));
    return rest;
}

Result<StartMessage> decode_start(std::span<const std::byte> data, std::vector<Fd>& fds) {
    THAW_TRY(const WireStart wire, take_body<WireStart>(data));
    THAW_TRY(const Parts parts, parse_parts(wire.parts, "Start"));
    if (wire.spares > kMaxSpareSockets) return fail(EBADMSG, "Start: counts out of range");
    const std::size_t fixed = kFixedFds + parts.count();
    THAW_CHECK(expect_fds(fds, fixed + wire.spares));
    StartMessage start;
    start.session = std::move(fds[0]);
    start.uffd = std::move(fds[1]);
    start.vmm_pidfd = std::move(fds[2]);
    start.memory = std::move(fds[3]);
    take_parts(parts, fds, start);
    start.spares = take_rest(fds, fixed);
    return start;
}

Result<HelloMessage> decode_hello(std::span<const std::byte> data, std::vector<Fd>& fds) {
    THAW_TRY(const WireHello wire, take_body<WireHello>(data));
    THAW_TRY(const Parts parts, parse_parts(wire.parts, "Hello"));
    THAW_CHECK(expect_fds(fds, kFixedFds + parts.count()));
    HelloMessage hello;
    std::memcpy(hello.session_id.data(), wire.session_id, sizeof wire.session_id);
    hello.session = std::move(fds[0]);
    hello.uffd = std::move(fds[1]);
    hello.vmm_pidfd = std::move(fds[2]);
    hello.memory = std::move(fds[3]);
    take_parts(parts, fds, hello);
    return hello;
}

Result<ReadyMessage> decode_ready(std::span<const std::byte> data, const std::vector<Fd>& fds) {
    THAW_TRY(const WireReady wire, take_body<WireReady>(data));
    THAW_CHECK(expect_fds(fds, 0));
    if (wire.engine > static_cast<std::uint32_t>(FaultEngineKind::IoUring) ||
        wire.memory_lock > static_cast<std::uint32_t>(MemoryLock::All))
        return fail(EBADMSG, "Ready: unknown engine or lock");
    return ReadyMessage{
        .generation = wire.generation,
        .engine = static_cast<FaultEngineKind>(wire.engine),
        .memory_lock = static_cast<MemoryLock>(wire.memory_lock),
    };
}

Result<FailedMessage> decode_failed(std::span<const std::byte> data, const std::vector<Fd>& fds) {
    THAW_TRY(const WireFailed wire, take_body<WireFailed>(data));
    THAW_CHECK(expect_fds(fds, 0));
    if (wire.reason == 0 || wire.reason > kFailureReasonMax)
        return fail(EBADMSG, "Failed: unknown reason {}", wire.reason);
    return FailedMessage{
        .reason = static_cast<FailureReason>(wire.reason),
        .errno_value = wire.errno_value,
        .page_offset = wire.page_offset,
        .fatal = wire.fatal != 0,
    };
}

Result<AttendedMessage>
decode_attended(std::span<const std::byte> data, const std::vector<Fd>& fds) {
    THAW_TRY(const WireAttended wire, take_body<WireAttended>(data));
    THAW_CHECK(expect_fds(fds, 0));
    if (wire.quiesced > 1 || wire.tracking > static_cast<std::uint32_t>(TrackState::Arming))
        return fail(EBADMSG, "Attended: values out of range");
    return AttendedMessage{
        .serial = wire.serial,
        .quiesced = wire.quiesced != 0,
        .tracking = static_cast<TrackState>(wire.tracking),
    };
}

Result<ReplayEndedMessage>
decode_replay_ended(std::span<const std::byte> data, const std::vector<Fd>& fds) {
    THAW_TRY(const WireReplayEnded wire, take_body<WireReplayEnded>(data));
    THAW_CHECK(expect_fds(fds, 0));
    if (wire.state > static_cast<std::uint32_t>(ReplayState::Refused) ||
        wire.reason > kReplayReasonMax)
        return fail(EBADMSG, "ReplayEnded: values out of range");
    return ReplayEndedMessage{
        .state = static_cast<ReplayState>(wire.state),
        .reason = static_cast<ReplayReason>(wire.reason),
    };
}

Result<WireChunk> decode_chunk(std::span<const std::byte> data, const std::vector<Fd>& fds) {
    THAW_TRY(const WireChunk wire, take_body<WireChunk>(data));
    THAW_CHECK(expect_fds(fds, 0));
    return wire;
}

Result<WantChunkMessage>
decode_want_chunk(std::span<const std::byte> data, const std::vector<Fd>& fds) {
    THAW_TRY(const WireChunk wire, decode_chunk(data, fds));
    if (wire.value < 1 || wire.value > static_cast<std::int32_t>(kChunkPages) ||
        wire.ahead > kMostChunksAhead)
        return fail(EBADMSG, "WantChunk: values out of range");
    return WantChunkMessage{
        .chunk = wire.chunk,
        .pages = static_cast<std::uint32_t>(wire.value),
        .ahead = wire.ahead,
    };
}

Result<ChunksMessage> decode_chunks(std::span<const std::byte> data, std::vector<Fd>& fds) {
    THAW_CHECK(take_body<WireEmpty>(data));
    THAW_CHECK(expect_fds(fds, 4));
    return ChunksMessage{
        .data = std::move(fds[0]),
        .map = std::move(fds[1]),
        .index = std::move(fds[2]),
        .uses = std::move(fds[3]),
    };
}

Result<WelcomeMessage> decode_welcome(std::span<const std::byte> data, std::vector<Fd>& fds) {
    THAW_TRY(const WireWelcome wire, take_body<WireWelcome>(data));
    if (wire.spares > kMaxSpareSockets) return fail(EBADMSG, "Welcome: counts out of range");
    THAW_CHECK(expect_fds(fds, wire.spares));
    return WelcomeMessage{.spares = take_rest(fds, 0)};
}

} // namespace

Result<ControlMessage> decode(std::span<const std::byte> data, std::vector<Fd> fds) {
    WireHeader header{};
    if (data.size() < sizeof header) return fail(EBADMSG, "control message is too short");
    std::memcpy(&header, data.data(), sizeof header);
    if (header.magic != kControlMagic) return fail(EBADMSG, "control message: bad magic");
    if (header.version != kControlVersion)
        return fail(EPROTONOSUPPORT, "control message of version {}", header.version);
    if (header.size != data.size() || header.fd_count != fds.size())
        return fail(EBADMSG, "control message: size or descriptor count does not match");
    ControlMessage message;
    message.type = static_cast<ControlType>(header.type);
    switch (message.type) {
    case ControlType::Start: {
        THAW_TRY(message.start, decode_start(data, fds));
        return message;
    }
    case ControlType::Welcome: {
        THAW_TRY(message.welcome, decode_welcome(data, fds));
        return message;
    }
    case ControlType::Hello: {
        THAW_TRY(message.hello, decode_hello(data, fds));
        return message;
    }
    case ControlType::Ready: {
        THAW_TRY(message.ready, decode_ready(data, fds));
        return message;
    }
    case ControlType::Failed: {
        THAW_TRY(message.failed, decode_failed(data, fds));
        return message;
    }
    case ControlType::Attended: {
        THAW_TRY(message.attended, decode_attended(data, fds));
        return message;
    }
    case ControlType::ReplayEnded: {
        THAW_TRY(message.replay_ended, decode_replay_ended(data, fds));
        return message;
    }
    case ControlType::WantChunk: {
        THAW_TRY(message.want_chunk, decode_want_chunk(data, fds));
        return message;
    }
    case ControlType::ChunkLanded: {
        THAW_TRY(const WireChunk wire, decode_chunk(data, fds));
        message.chunk_landed = {.chunk = wire.chunk};
        return message;
    }
    case ControlType::ChunkFailed: {
        THAW_TRY(const WireChunk wire, decode_chunk(data, fds));
        message.chunk_failed = {.chunk = wire.chunk, .errno_value = wire.value};
        return message;
    }
    case ControlType::Chunks: {
        THAW_TRY(message.chunks, decode_chunks(data, fds));
        return message;
    }
    case ControlType::Attend:
    case ControlType::Quit:
    case ControlType::Complete:
    case ControlType::VmmExited: {
        THAW_CHECK(take_body<WireEmpty>(data));
        THAW_CHECK(expect_fds(fds, 0));
        return message;
    }
    }
    return fail(EBADMSG, "control message of unknown type {}", header.type);
}

} // namespace thaw::protocol
