// SPDX-License-Identifier: MIT
#include "protocol/worker_control.hpp"

#include "core/scm.hpp"

#include <sys/socket.h>

#include <bit>
#include <cstring>

namespace thaw::protocol {

namespace {

struct WireHeader {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t type;
    std::uint32_t size; // of the whole message
    std::uint32_t fd_count;
};
static_assert(sizeof(WireHeader) == 16);

struct WireStart {
    std::uint32_t parts; // see Parts
    std::uint32_t spares;
};
struct WireWelcome {
    std::uint32_t spares;
    std::uint32_t reserved;
};
struct WireReady {
    std::uint64_t generation;
    std::uint32_t engine;
    std::uint32_t memory_lock;
};
struct WireHello {
    std::uint8_t session_id[16];
    std::uint32_t parts; // see Parts
    std::uint32_t reserved;
};
struct WireFailed {
    std::uint32_t reason;
    std::int32_t errno_value;
    std::uint64_t page_offset;
    std::uint32_t fatal;
    std::uint32_t reserved;
};
struct WireAttended {
    std::uint32_t serial;
    std::uint32_t quiesced;
    std::uint32_t tracking;
    std::uint32_t reserved;
};
struct WireReplayEnded {
    std::uint32_t state;
    std::uint32_t reason;
};
static_assert(sizeof(WireHello) == 24 && sizeof(WireFailed) == 24 && sizeof(WireReady) == 16);

// Descriptors that Start and Hello always bring: session, uffd, pidfd, memory.
constexpr std::size_t kFixedFds = 4;
// Those that follow when their bit is set, in this order.
constexpr std::uint32_t kHasMap = 1U << 0;
constexpr std::uint32_t kHasWorkingSet = 1U << 1;
constexpr std::uint32_t kHasLayers = 1U << 2; // and as many bases as the second byte says
constexpr std::uint32_t kAllParts = kHasMap | kHasWorkingSet | kHasLayers;
constexpr std::uint32_t kBasesShift = 8;

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

// Appends the optional descriptors that are there and says which.
std::uint32_t add_parts(
    std::vector<int>& fds, int map, int working_set, int layers, const std::vector<int>& bases
) {
    if (map >= 0) fds.push_back(map);
    if (working_set >= 0) fds.push_back(working_set);
    std::uint32_t word = (map >= 0 ? kHasMap : 0) | (working_set >= 0 ? kHasWorkingSet : 0);
    if (layers < 0) return word;
    fds.push_back(layers);
    fds.insert(fds.end(), bases.begin(), bases.end());
    return word | kHasLayers | static_cast<std::uint32_t>(bases.size()) << kBasesShift;
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

Result<WelcomeMessage> decode_welcome(std::span<const std::byte> data, std::vector<Fd>& fds) {
    THAW_TRY(const WireWelcome wire, take_body<WireWelcome>(data));
    if (wire.spares > kMaxSpareSockets) return fail(EBADMSG, "Welcome: counts out of range");
    THAW_CHECK(expect_fds(fds, wire.spares));
    return WelcomeMessage{.spares = take_rest(fds, 0)};
}

struct Empty {
    std::uint64_t reserved = 0;
};

} // namespace

EncodedMessage encode(const StartMessage& message) {
    std::vector<int> fds{
        message.session.get(), message.uffd.get(), message.vmm_pidfd.get(), message.memory.get()
    };
    std::vector<int> bases;
    bases.reserve(message.bases.size());
    for (const Fd& base : message.bases)
        bases.push_back(base.get());
    const std::uint32_t parts =
        add_parts(fds, message.map.get(), message.working_set.get(), message.layers.get(), bases);
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
    wire.parts = add_parts(fds, message.map, message.working_set, message.layers, message.bases);
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

EncodedMessage encode(ControlType bare) {
    return build(bare, Empty{}, {});
}

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
    case ControlType::Attend:
    case ControlType::Quit:
    case ControlType::Complete:
    case ControlType::VmmExited: {
        THAW_CHECK(take_body<Empty>(data));
        THAW_CHECK(expect_fds(fds, 0));
        return message;
    }
    }
    return fail(EBADMSG, "control message of unknown type {}", header.type);
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
