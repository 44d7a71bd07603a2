// SPDX-License-Identifier: MIT
#pragma once

// The bytes of a session memfd: all that must survive the death of a worker, of the broker or of
// both. Plain data and atomics at fixed offsets; use it through SessionMemory (session_memory.hpp).
//
//   0x0000  SessionHeader   written once by the broker when the session is made
//   0x1000  RegionTable     written once by the broker after the handshake
//   0x3000  SessionState    atomics: life signs, failure, counters (worker writes, broker reads)
//   0x4000  SessionControl  atomics: what the broker wants of the worker (broker writes)
//   0x5000  message ring    64 buffers x 16 messages x 32 bytes, the kernel writes, worker clears
//   0xd000  removed bitmap  1 bit per 4 KiB page of the memory file
//           dirty bitmap    the same; each of these begins at a page boundary
//           present bitmap  the same: pages that a worker installed or found there
//           touch log       recording sessions only: 4 KiB page indices in order of first touch
//           chunk uses      remote images only: when each chunk was read last
//
// Whoever maps it treats every byte as hostile: the other side may have been taken over, and it may
// change at any time. Numbers are little-endian host order; both ends run on one machine.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace thaw::protocol {

inline constexpr std::uint64_t kSessionMagic = 0x3153'4553'5741'4854; // "THAWSES1"
inline constexpr std::uint32_t kSessionVersion = 2;

inline constexpr std::size_t kSessionPage = 4096;
inline constexpr std::uint64_t kBitPage = 4096; // what one bit of the bitmaps stands for
inline constexpr std::uint64_t kMaxMemorySize = std::uint64_t{1} << 44; // 16 TiB
inline constexpr std::size_t kMaxRegions = 64;

// ---- header: constant after creation ---------------------------------------------------------

// What happens to a page that cannot be served (OnPagerLoss).
enum class LossPolicy : std::uint32_t {
    Poison = 1, // UFFDIO_POISON, where the kernel has it; else as Stop
    Stop = 2,   // the fault stays parked until the VM's unit has been stopped
};

inline constexpr std::uint32_t kFlagPrefetch = 1U << 0;  // SessionControl::prefetch begins as 1
inline constexpr std::uint32_t kFlagRecording = 1U << 1; // there is a touch log; no prefetch
inline constexpr std::uint32_t kFlagUnchecked = 1U << 2; // page checksums switched off
inline constexpr std::uint32_t kFlagChunked = 1U << 3;   // the memory is a chunk cache's
inline constexpr std::uint32_t kKnownFlags =
    kFlagPrefetch | kFlagRecording | kFlagUnchecked | kFlagChunked;

struct SessionHeader {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t policy; // LossPolicy
    std::uint32_t flags;  // kFlag*
    std::uint32_t reserved;
    std::uint64_t total_size;    // bytes of the memfd
    std::uint64_t memory_size;   // bytes of the memory file, multiple of 4 KiB
    std::uint64_t page_size;     // of the image: 4096 or 2 MiB
    std::uint64_t created_ns;    // CLOCK_MONOTONIC
    std::uint8_t session_id[16]; // random
    std::uint8_t image_id[16];   // all zero: unknown
    char name[64];               // VM name, NUL-terminated
    char unit[256];              // VMM unit, NUL-terminated
    char image_name[160];        // NUL-terminated
};

// ---- regions: written once -------------------------------------------------------------------

struct Region {
    std::uint64_t base = 0;      // address in the VMM
    std::uint64_t size = 0;      // bytes
    std::uint64_t offset = 0;    // in the memory file
    std::uint64_t page_size = 0; // 4096 or 2 MiB
    bool operator==(const Region&) const = default;
};

struct RegionTable {
    // 0 until the handshake is done; stored last (release). Never changes after that.
    std::atomic<std::uint32_t> count;
    std::uint32_t reserved;
    std::uint64_t handshake_ns; // CLOCK_MONOTONIC
    std::array<Region, kMaxRegions> regions;
};

// ---- life signs, failure, counters -----------------------------------------------------------

// Working-set replay, as the worker sees it.
enum class ReplayState : std::uint32_t {
    None = 0, // nothing to replay, or no worker has looked yet
    Running = 1,
    Paused = 2,  // see ReplayReason: Pressure, Off, Quiesced
    Done = 3,    // all of it is in
    Stopped = 4, // ended early: Budget, Source, Checksum
    Refused = 5, // the file is no good: Damaged, ForeignImage, OutOfRange, UnknownVersion
};
enum class ReplayReason : std::uint32_t {
    None = 0,
    Off = 1,      // SessionControl::prefetch is 0
    Pressure = 2, // the host's memory or I/O pressure is above its limit
    Quiesced = 3,
    Budget = 4,   // the byte budget is used up
    Source = 5,   // the working set or the memory file cannot be read
    Checksum = 6, // bytes are not those that were sealed
    Damaged = 7,
    ForeignImage = 8,
    OutOfRange = 9, // names pages beyond the image
    UnknownVersion = 10,
};
inline constexpr std::uint32_t kReplayReasonMax = 10;
// Where the bytes ahead of the guest come from.
enum class ReplayKind : std::uint32_t { None = 0, WorkingSet = 1, Sequential = 2 };
// How they are read.
inline constexpr std::uint32_t kReplayDirect = 1U << 0;     // O_DIRECT
inline constexpr std::uint32_t kReplayRegistered = 1U << 1; // registered io_uring buffers

enum class PopulateState : std::uint32_t {
    None = 0,
    Running = 1, // also while quiesced
    Done = 2,
    Failed = 3, // some pages cannot be read; those that are missing are served on demand as ever
};
// Whether the dirty bitmap can be relied on (SessionControl::track).
enum class TrackState : std::uint32_t {
    Off = 0,
    Armed = 1,  // a page whose bit is clear is as it was when tracking began
    Failed = 2, // nobody can vouch for that any more; stays so until tracking is given up
    Arming = 3,
};

enum class FaultEngineKind : std::uint32_t { None = 0, Epoll = 1, IoUring = 2 };
enum class WorkerPhase : std::uint32_t {
    None = 0,     // no worker has had this memory yet
    Adopting = 1, // lock held, ring being replayed
    Serving = 2,
    Complete = 3, // every page is in; nothing is left to serve
    Failed = 4,   // a page cannot be served (see FailureRecord); all other pages still are
};
enum class FailureReason : std::uint32_t {
    None = 0,
    SourceTruncated = 1, // the memory file is shorter than the image
    SourceRead = 2,      // EIO or another error of the source
    Checksum = 3,        // the bytes are not those that were sealed
    MapDamaged = 4,      // memory.map does not match itself
    UffdRead = 5,        // reading the userfaultfd failed: a message may be lost
    Install = 6,         // UFFDIO_COPY/ZEROPAGE failed in an unknown way (ENOMEM, EFAULT, ...)
    LockHeld = 7,        // another worker holds the session's lock
    SessionInvalid = 8,  // this memory does not hold together
    Resources = 9,       // no memory to lock or map what the fault path needs
};
inline constexpr std::uint32_t kFailureReasonMax = 9;

// How much of the fault path is locked in memory.
enum class MemoryLock : std::uint32_t { None = 0, Ring = 1, All = 2 };

// The first page that could not be served; later ones are only counted.
struct FailureRecord {
    std::atomic<std::uint32_t> reason; // FailureReason; stored last (release)
    std::atomic<std::int32_t> errno_value;
    std::atomic<std::uint64_t> page_offset; // in the memory file
    std::atomic<std::uint64_t> when_ns;     // CLOCK_MONOTONIC
    std::atomic<std::uint64_t> pages;       // pages that could not be served, this one included
    std::atomic<std::uint64_t> poisoned;    // of those, how many were poisoned
};

inline constexpr std::size_t kLatencyBuckets = 32;

// Since the session began, over all its workers.
struct SessionCounters {
    std::atomic<std::uint64_t> faults;       // PAGEFAULT messages taken up
    std::atomic<std::uint64_t> removes;      // REMOVE/UNMAP messages
    std::atomic<std::uint64_t> other_events; // FORK, REMAP, unknown: ignored
    // Installed, by kind; each byte counts once.
    std::atomic<std::uint64_t> bytes_demand;   // data because a guest asked
    std::atomic<std::uint64_t> bytes_replay;   // data ahead of the guest
    std::atomic<std::uint64_t> bytes_populate; // data because all pages were asked for (Complete)
    std::atomic<std::uint64_t> bytes_zero;     // zeros of the image
    std::atomic<std::uint64_t> bytes_removed;  // zeros of pages the guest had given back
    std::atomic<std::uint64_t> bytes_read;     // from the source
    std::atomic<std::uint64_t> pages_copied;   // 4 KiB pages installed with data
    std::atomic<std::uint64_t> pages_zero;     // 4 KiB pages installed as zeros of the image
    std::atomic<std::uint64_t> pages_rezero;   // 4 KiB pages installed as zeros: removed before
    std::atomic<std::uint64_t> pages_removed;  // 4 KiB pages whose removed bit was set
    std::atomic<std::uint64_t> pages_checked;  // checksums computed
    // 4 KiB pages of the replay. A page that is in before the guest asks makes no fault, so "used"
    // only counts those whose fault was on its way: a lower bound.
    std::atomic<std::uint64_t> replay_pages;  // installed
    std::atomic<std::uint64_t> replay_used;   // installed while a fault for them was on its way
    std::atomic<std::uint64_t> replay_late;   // skipped: the guest had been faster
    std::atomic<std::uint64_t> replay_wasted; // installed and given back by the guest later
    std::atomic<std::uint64_t> again;         // EAGAIN of a fill
    std::atomic<std::uint64_t> exists;        // EEXIST of a fill: present already
    std::atomic<std::uint64_t> gone;          // ENOENT of a fill, faults outside the regions
    std::atomic<std::uint64_t> partial;       // fills that were cut short
    std::atomic<std::uint64_t> retries;       // second and later attempts at a fault
    std::atomic<std::uint64_t> source_errors; // failed reads and mismatches, retried ones included
    std::atomic<std::uint64_t> parked;        // faults waiting for a retry now
    std::atomic<std::uint64_t> wakes;         // UFFDIO_WAKE calls
    std::atomic<std::uint64_t> adoptions;     // workers that took this session over
    std::atomic<std::uint64_t> replayed_messages; // messages an adopter found in the ring
    std::atomic<std::uint64_t> loop_turns;
    std::atomic<std::uint64_t> first_fault_ns; // CLOCK_MONOTONIC, 0: none yet
    std::atomic<std::uint64_t> last_fault_ns;  // the latest
    std::atomic<std::uint64_t> last_page_ns;   // when the last missing page went in, 0: not yet
    std::atomic<std::uint64_t> replay_done_ns; // working set in, 0: not yet
    std::atomic<std::uint64_t> write_faults;   // of write-protected pages, while tracking
    // From taking a fault's message to its answer; bucket i counts latencies below 2^i µs (and not
    // below 2^(i-1)), the last one everything above.
    std::array<std::atomic<std::uint64_t>, kLatencyBuckets> latency;
    std::atomic<std::uint64_t> latency_sum_ns; // of all of them
};

// The kernel's uffdio_copy, in memory that outlives the worker: the kernel writes `done` before the
// ioctl returns, also for a worker that is killed in it and never hears of the page it put in.
struct CopyRecord {
    std::atomic<std::uint64_t> address; // in the VMM
    std::atomic<std::uint64_t> source;  // in the worker
    std::atomic<std::uint64_t> length;
    std::atomic<std::uint64_t> mode;
    std::atomic<std::int64_t> done; // bytes, or -errno; 0 before the kernel has looked at it
};

struct SessionState {
    std::atomic<std::uint32_t> phase;       // WorkerPhase
    std::atomic<std::uint32_t> engine;      // FaultEngineKind
    std::atomic<std::uint32_t> memory_lock; // MemoryLock
    std::atomic<std::uint32_t> worker_pid;  // in the worker's pid namespace; a hint
    std::atomic<std::uint64_t> generation;  // counts workers; the first is 1
    std::atomic<std::uint64_t> worker_started_ns;
    std::atomic<std::uint64_t> serving_since_ns; // of this generation
    // Last turn of the loop. An idle worker does not turn: judge by the two fields below.
    std::atomic<std::uint64_t> heartbeat_ns;
    // CLOCK_MONOTONIC of the oldest fault that was read and not yet answered; 0: none. A stopped
    // worker does not read: the broker sees that by poll() on its own copy of the uffd (POLLIN
    // that stays while heartbeat_ns does not move), which takes no message away.
    std::atomic<std::uint64_t> oldest_fault_ns;
    // 1 while the worker waits for a source that is known to be slow or for a retry of a failed
    // read: age is then no sign of being stuck.
    std::atomic<std::uint32_t> source_slow;
    // 1 once a page met policy Stop and its fault is parked until the VM is gone (StopPending).
    std::atomic<std::uint32_t> stop_pending;
    // The 4 KiB page index + 1 a fill begins with that is under way now; 0: none.
    std::atomic<std::uint64_t> published_chunk;
    // SessionControl::serial that the fields below answer to.
    std::atomic<std::uint32_t> control_serial;
    // 1: as asked for, no background work runs, none is in flight and no fault is parked. Faults
    // that come meanwhile are served.
    std::atomic<std::uint32_t> quiesced;
    std::atomic<std::uint32_t> replay_state;  // ReplayState
    std::atomic<std::uint32_t> replay_reason; // ReplayReason
    std::atomic<std::uint32_t> replay_kind;   // ReplayKind
    std::atomic<std::uint32_t> replay_io;     // kReplayDirect, kReplayRegistered
    std::atomic<std::uint64_t> replay_total;  // bytes of guest memory it covers
    std::atomic<std::uint64_t> replay_done;   // bytes it is through with, skipped ones included
    // Complete: bytes of the regions that it is through with; all of them once phase is Complete.
    std::atomic<std::uint64_t> populate_done;
    std::atomic<std::uint32_t> tracking;       // TrackState
    std::atomic<std::uint32_t> populate_state; // PopulateState; Attended tells of a change
    std::atomic<std::uint64_t> touches;        // entries of the touch log, stored after the entry
    std::atomic<std::uint32_t> vouched;        // SessionControl::vouch that was answered
    std::atomic<std::uint32_t> track_errno;    // why tracking failed
    CopyRecord last_copy;
    alignas(64) FailureRecord failure;
    alignas(64) SessionCounters counters;
    // The chunk + 1 of a remote image that is being read now; 0: none (see chunk_map.hpp). What a
    // dead worker left is the broker's to clear, once it is proven dead.
    alignas(64) std::atomic<std::uint64_t> used_chunk;
};

// ---- what the broker wants -------------------------------------------------------------------

// Written through SessionMemory (set_prefetch(), request_...()), which counts `serial` last; then
// the broker sends Attend. A worker that takes over finds it here.
struct SessionControl {
    std::atomic<std::uint32_t> serial;
    std::atomic<std::uint32_t> prefetch;          // 0: no replay
    std::atomic<std::uint64_t> prefetch_rate;     // bytes per second; 0: no limit
    std::atomic<std::uint64_t> replay_budget;     // bytes of a working set; 0: no limit
    std::atomic<std::uint64_t> sequential_budget; // bytes in file order without one; 0: none
    // "some avg10" of /proc/pressure/{memory,io} in 1/100 % above which it pauses; 0: never looked
    // at.
    std::atomic<std::uint32_t> memory_pressure;
    std::atomic<std::uint32_t> io_pressure;
    std::atomic<std::uint32_t> populate; // 1: every page wanted (Complete)
    std::atomic<std::uint32_t> quiesce;  // 1: the barrier of a snapshot wanted
    std::atomic<std::uint32_t> track;    // 1: write-protect and note what the guest writes
    // Counts up: all pages that are not dirty are to be protected once more, which shows that the
    // kernel watches them still.
    std::atomic<std::uint32_t> vouch;
};

// ---- message ring ----------------------------------------------------------------------------

inline constexpr std::size_t kRingBuffers = 64;
inline constexpr std::size_t kRingMessages = 16; // per buffer
inline constexpr std::size_t kMessageSize = 32;  // sizeof(struct uffd_msg)
inline constexpr std::size_t kRingBufferSize = kRingMessages * kMessageSize;

struct alignas(8) RingMessage {
    std::byte bytes[kMessageSize]; // struct uffd_msg; byte 0 is its event, 0: empty
};
using RingBuffer = std::array<RingMessage, kRingMessages>;
using MessageRing = std::array<RingBuffer, kRingBuffers>;

// ---- where things are ------------------------------------------------------------------------

inline constexpr std::size_t kHeaderOffset = 0x0000;
inline constexpr std::size_t kRegionsOffset = 0x1000;
inline constexpr std::size_t kStateOffset = 0x3000;
inline constexpr std::size_t kControlOffset = 0x4000;
inline constexpr std::size_t kRingOffset = 0x5000;
inline constexpr std::size_t kBitmapOffset = 0xd000;

// Bytes of one bitmap: whole pages, at least one.
constexpr std::size_t bitmap_bytes(std::uint64_t memory_size) {
    const std::uint64_t bits = memory_size / kBitPage;
    return static_cast<std::size_t>((bits / 8 + kSessionPage) / kSessionPage * kSessionPage);
}
// Bytes of the touch log: one index per page, whole pages.
constexpr std::size_t touch_log_bytes(std::uint64_t memory_size) {
    const std::uint64_t bytes = memory_size / kBitPage * sizeof(std::uint32_t);
    return static_cast<std::size_t>((bytes + kSessionPage - 1) / kSessionPage * kSessionPage);
}
// What a chunk use counts in: 8.4 ms, so that it wraps around after more than a year.
inline constexpr unsigned kChunkUseShift = 23;
// Bytes of the chunk uses: one number per 4 MiB, whole pages.
constexpr std::size_t chunk_use_bytes(std::uint64_t memory_size) {
    constexpr std::uint64_t kChunk = 4 << 20;
    const std::uint64_t bytes = (memory_size + kChunk - 1) / kChunk * sizeof(std::uint32_t);
    return static_cast<std::size_t>((bytes + kSessionPage - 1) / kSessionPage * kSessionPage);
}
constexpr std::size_t chunk_use_offset(std::uint64_t memory_size, std::uint32_t flags) {
    const std::size_t bitmaps = kBitmapOffset + 3 * bitmap_bytes(memory_size);
    return bitmaps + ((flags & kFlagRecording) != 0 ? touch_log_bytes(memory_size) : 0);
}
constexpr std::size_t session_bytes(std::uint64_t memory_size, std::uint32_t flags) {
    return chunk_use_offset(memory_size, flags) +
           ((flags & kFlagChunked) != 0 ? chunk_use_bytes(memory_size) : 0);
}

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(std::is_trivially_copyable_v<SessionHeader>);
static_assert(std::is_standard_layout_v<SessionState> && std::is_standard_layout_v<RegionTable>);
static_assert(sizeof(SessionHeader) == 568 && offsetof(SessionHeader, session_id) == 56);
static_assert(offsetof(SessionHeader, name) == 88 && offsetof(SessionHeader, unit) == 152);
static_assert(sizeof(Region) == 32 && offsetof(RegionTable, regions) == 16);
static_assert(sizeof(RegionTable) <= kStateOffset - kRegionsOffset);
static_assert(sizeof(CopyRecord) == 40 && std::is_standard_layout_v<CopyRecord>);
static_assert(offsetof(SessionState, heartbeat_ns) == 40);
static_assert(offsetof(SessionState, oldest_fault_ns) == 48);
static_assert(offsetof(SessionState, failure) == 192 && offsetof(SessionState, counters) == 256);
static_assert(sizeof(SessionState) <= kControlOffset - kStateOffset);
static_assert(std::is_standard_layout_v<SessionControl>);
static_assert(sizeof(SessionControl) <= kRingOffset - kControlOffset);
static_assert(kMaxMemorySize / kBitPage - 1 <= UINT32_MAX); // an index of the touch log
static_assert(sizeof(MessageRing) == kBitmapOffset - kRingOffset);

} // namespace thaw::protocol
