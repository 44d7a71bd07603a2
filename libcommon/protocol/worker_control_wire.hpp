// SPDX-License-Identifier: MIT
#pragma once

// How the messages of worker_control.hpp stand on the wire: fixed bodies after one header. For
// those two that encode and decode them only.

#include <cstddef>
#include <cstdint>

namespace thaw::protocol {

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
struct WireChunk {
    std::uint32_t chunk;
    std::int32_t value; // WantChunk: pages; ChunkFailed: errno
    std::uint32_t ahead;
    std::uint32_t reserved;
};
static_assert(sizeof(WireHello) == 24 && sizeof(WireFailed) == 24 && sizeof(WireReady) == 16);

struct WireEmpty {
    std::uint64_t reserved = 0;
};

// Descriptors that Start and Hello always bring: session, uffd, pidfd, memory.
inline constexpr std::size_t kFixedFds = 4;
// Those that follow when their bit is set, in this order.
inline constexpr std::uint32_t kHasMap = 1U << 0;
inline constexpr std::uint32_t kHasWorkingSet = 1U << 1;
inline constexpr std::uint32_t kHasLayers = 1U << 2; // and as many bases as the second byte says
inline constexpr std::uint32_t kHasChunkMap = 1U << 3;
inline constexpr std::uint32_t kAllParts = kHasMap | kHasWorkingSet | kHasLayers | kHasChunkMap;
inline constexpr std::uint32_t kBasesShift = 8;

} // namespace thaw::protocol
