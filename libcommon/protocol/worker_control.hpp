// SPDX-License-Identifier: MIT
#pragma once

// What broker and worker say to each other, one message per SOCK_SEQPACKET datagram, descriptors in
// SCM_RIGHTS in the order given here. Both sides treat what they receive as hostile: sizes, type,
// version, counts and the number of descriptors are checked before anything is used.
//
//   broker -> worker
//     Start      session memfd, userfaultfd, pidfd of the VMM, memory file, [memory.map],
//                [working-set], [layers, memory files of the images below...], [chunk map],
//                spares...
//     Welcome    spares...            answer to Hello
//     Attend                          SessionControl of the session memory has changed
//     Quit                            only once the VMM is dead or every page is in
//     ChunkLanded                     pages of a chunk that was wanted are there: look again
//     ChunkFailed                     a chunk that was wanted cannot be had now
//   worker -> broker
//     Ready                           lock held, ring replayed, waiters woken, serving
//     Hello      session memfd, userfaultfd, pidfd of the VMM, memory file, [memory.map],
//                [working-set], [layers, memory files of the images below...], [chunk map]
//                                     first message on a connection to the control socket
//     Failed                          see FailureRecord in the session memory; the worker may go on
//     Complete                        every page is in: is_covered() of every region holds, and
//                                     the broker may unregister them
//     Attended                        the answer to a change of SessionControl, also a late one
//                                     (quiesced once the last fault is unparked)
//     ReplayEnded                     working set in, or why not
//     VmmExited                       the worker exits after this
//     WantChunk                       pages of a remote image's memory are needed; said again from
//                                     time to time, and to every new broker
//
// The server of a root file system that lies behind a URL speaks a part of this with the broker, on
// a socket of its own (services/pagerd/rootfs_source.hpp): once the broker knows whom it has before
// it, it says
//     Chunks     memfd of the cache and its chunk map, both to read; the map of checksums;
//                the table of uses (chunk_uses.hpp)
// and then WantChunk is answered by ChunkLanded or ChunkFailed, as above.
//
// Spares are unconnected SOCK_SEQPACKET sockets: a worker has no socket(2) any more once it serves,
// and needs one for each broker it dials in to. They must be non-blocking and close-on-exec.

#include "core/error.hpp"
#include "core/fd.hpp"
#include "protocol/session_layout.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace thaw::protocol {

inline constexpr std::uint32_t kControlMagic = 0x5448'4157; // "THAW"
inline constexpr std::uint16_t kControlVersion = 2;
inline constexpr std::size_t kControlMaxSize = 256; // bytes of the longest message
inline constexpr std::size_t kControlMaxFds = 32;
inline constexpr std::size_t kSpareSockets = 8; // what the broker hands out
inline constexpr std::size_t kMaxSpareSockets = 16;
inline constexpr std::size_t kMaxBases = 7; // images below a difference

enum class ControlType : std::uint16_t {
    Start = 1,
    Welcome = 2,
    Quit = 3,
    Attend = 4,
    ChunkLanded = 5,
    ChunkFailed = 6,
    Chunks = 7,
    Ready = 16,
    Hello = 17,
    Failed = 18,
    Complete = 19,
    VmmExited = 20,
    Attended = 21,
    ReplayEnded = 22,
    WantChunk = 23,
};

struct StartMessage {
    Fd session;
    Fd uffd;
    Fd vmm_pidfd;
    Fd memory;
    Fd map;         // may be empty: pages are not checked
    Fd working_set; // may be empty
    // Of an image that is a difference: its table of layers, and the memory files of the images
    // below, nearest first. Both or neither.
    Fd layers;
    std::vector<Fd> bases;
    Fd chunk_map; // of a remote image: what of `memory` may be read (chunk_map.hpp)
    std::vector<Fd> spares;
};
struct WelcomeMessage {
    std::vector<Fd> spares;
};
struct ReadyMessage {
    std::uint64_t generation = 0;
    FaultEngineKind engine = FaultEngineKind::None;
    MemoryLock memory_lock = MemoryLock::None;
};
struct HelloMessage {
    std::array<std::uint8_t, 16> session_id{};
    Fd session;
    Fd uffd;
    Fd vmm_pidfd;
    Fd memory;
    Fd map;                // may be empty
    Fd working_set;        // may be empty
    Fd layers;             // as in StartMessage
    std::vector<Fd> bases; // as in StartMessage
    Fd chunk_map;          // as in StartMessage
};
struct FailedMessage {
    FailureReason reason = FailureReason::None;
    std::int32_t errno_value = 0;
    std::uint64_t page_offset = 0;
    bool fatal = false; // the worker exits after this
};

struct AttendedMessage {
    std::uint32_t serial = 0; // of the SessionControl it answers to
    bool quiesced = false;
    TrackState tracking = TrackState::Off;
};
struct ReplayEndedMessage {
    ReplayState state = ReplayState::None; // Done, Stopped or Refused
    ReplayReason reason = ReplayReason::None;
};

struct WantChunkMessage {
    std::uint32_t chunk = 0;
    std::uint32_t pages = 0; // from the chunk's first on: 1 to kChunkPages
    // So many chunks after it will be wanted soon; at most kMostChunksAhead.
    std::uint32_t ahead = 0;
};
inline constexpr std::uint32_t kMostChunksAhead = 8;
struct ChunksMessage {
    Fd data;
    Fd map;
    Fd index;
    Fd uses;
};
struct ChunkLandedMessage {
    std::uint32_t chunk = 0;
};
struct ChunkFailedMessage {
    std::uint32_t chunk = 0;
    std::int32_t errno_value = 0; // EBADMSG: what came is not what was sealed
};

// A received message. Only the member that belongs to `type` is filled.
struct ControlMessage {
    ControlType type{};
    StartMessage start;
    WelcomeMessage welcome;
    ReadyMessage ready;
    HelloMessage hello;
    FailedMessage failed;
    AttendedMessage attended;
    ReplayEndedMessage replay_ended;
    WantChunkMessage want_chunk;
    ChunkLandedMessage chunk_landed;
    ChunkFailedMessage chunk_failed;
    ChunksMessage chunks;
};

// A message ready for send_message(); `fds` are borrowed.
struct EncodedMessage {
    std::vector<std::byte> data;
    std::vector<int> fds;
};
EncodedMessage encode(const StartMessage& message);
EncodedMessage encode(const WelcomeMessage& message);
EncodedMessage encode(const ReadyMessage& message);
// `ids` are borrowed descriptors, so that a worker can say Hello without giving anything away (it
// must never hold a second descriptor of its session memfd).
struct HelloView {
    std::array<std::uint8_t, 16> session_id{};
    int session = -1;
    int uffd = -1;
    int vmm_pidfd = -1;
    int memory = -1;
    int map = -1;         // -1: none
    int working_set = -1; // -1: none
    int layers = -1;      // -1: none
    std::vector<int> bases{};
    int chunk_map = -1; // -1: none
};
EncodedMessage encode(const HelloView& message);
EncodedMessage encode(const FailedMessage& message);
EncodedMessage encode(const AttendedMessage& message);
EncodedMessage encode(const ReplayEndedMessage& message);
EncodedMessage encode(const WantChunkMessage& message);
EncodedMessage encode(const ChunkLandedMessage& message);
EncodedMessage encode(const ChunkFailedMessage& message);
EncodedMessage encode(const ChunksMessage& message);
// Attend, Quit, Complete, VmmExited.
EncodedMessage encode(ControlType bare);

// Takes all descriptors over; those that do not fit the message are closed. EBADMSG names what is
// wrong, EPROTONOSUPPORT for another version.
Result<ControlMessage> decode(std::span<const std::byte> data, std::vector<Fd> fds);

// One message to / from a control socket. send: EAGAIN when the socket is full. receive: EAGAIN
// when nothing is there, ECONNRESET when the peer is gone, EBADMSG for a bad one.
Result<> send_control(int socket, const EncodedMessage& message);
Result<ControlMessage> receive_control(int socket);

// `count` unconnected SOCK_SEQPACKET sockets, non-blocking and close-on-exec.
Result<std::vector<Fd>> make_spare_sockets(std::size_t count = kSpareSockets);

} // namespace thaw::protocol
