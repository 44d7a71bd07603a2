// SPDX-License-Identifier: MIT
#pragma once

// One mapped session memfd (session_layout.hpp). Made by the broker, mapped by worker and broker.
//
// Ownership: a SessionMemory owns its mapping and exactly one descriptor of the memfd. A worker
// holds its right to read the userfaultfd as a POSIX record lock on that memfd: closing *any*
// descriptor of it in the process, a duplicate included, drops the lock. So a worker never
// duplicates it and lets it go only at exit; the broker never locks.
//
// Threading: the constant parts are copied out when the memory is mapped, so nobody can change them
// under the reader; state(), ring() and the bitmaps are shared, atomics only.

#include "core/fd.hpp"
#include "protocol/session_layout.hpp"

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace thaw::protocol {

// What the broker may change at run time about pages ahead of the guest.
struct PrefetchPolicy {
    bool enabled = false;
    std::uint64_t rate = 0;              // bytes per second; 0: no limit
    std::uint64_t replay_budget = 0;     // bytes of a working set; 0: no limit
    std::uint64_t sequential_budget = 0; // bytes in file order without a working set; 0: none
    std::uint32_t memory_pressure = 0;   // pause above it, PSI some avg10 in 1/100 %; 0: never
    std::uint32_t io_pressure = 0;
    bool operator==(const PrefetchPolicy&) const = default;
};

// The constant part, validated.
struct SessionInfo {
    std::array<std::uint8_t, 16> session_id{};
    std::array<std::uint8_t, 16> image_id{};
    std::string name;       // VM
    std::string unit;       // of the VMM
    std::string image_name; // may be empty
    std::uint64_t memory_size = 0;
    std::uint64_t page_size = 4096;
    LossPolicy policy = LossPolicy::Stop;
    std::uint32_t flags = 0;      // kFlag*
    std::uint64_t created_ns = 0; // set by create()
};

class SessionMemory {
public:
    // A fresh memfd, sealed against growing, shrinking and further seals. EINVAL when `info` does
    // not hold together (names, sizes).
    static Result<SessionMemory> create(const SessionInfo& info);
    // Maps a memfd that came from elsewhere. EBADMSG names what is wrong with it; EPROTONOSUPPORT
    // for another layout version. Takes the descriptor over, also when it fails.
    static Result<SessionMemory> map(Fd memfd);
    SessionMemory(SessionMemory&& other) noexcept;
    SessionMemory& operator=(SessionMemory&& other) noexcept;
    SessionMemory(const SessionMemory&) = delete;
    SessionMemory& operator=(const SessionMemory&) = delete;
    ~SessionMemory();

    int fd() const noexcept { return fd_.get(); }
    std::size_t size() const noexcept { return size_; }
    const SessionInfo& info() const noexcept { return info_; }

    // Broker, once, after the handshake. EINVAL/ERANGE when check_regions() refuses; EALREADY on
    // the second call.
    Result<> set_regions(std::span<const Region> regions);
    // The regions, validated on every call; empty before the handshake. EBADMSG when damaged.
    Result<std::vector<Region>> regions() const;
    // CLOCK_MONOTONIC of set_regions(), 0: not yet. Unlike regions() not validated.
    std::uint64_t handshake_ns() const noexcept;

    // What the broker wants; each counts SessionControl::serial. Tell the worker with Attend; its
    // state().control_serial says when it has seen it.
    void set_prefetch(const PrefetchPolicy& policy) noexcept;
    PrefetchPolicy prefetch() const noexcept;
    void request_populate(bool wanted) noexcept;
    void request_quiesce(bool wanted) noexcept;
    void request_tracking(bool wanted) noexcept;
    // Returns what state().vouched will be once it is done.
    std::uint32_t request_vouching() noexcept;
    SessionControl& control() const noexcept;

    SessionState& state() const noexcept;
    SessionCounters& counters() const noexcept { return state().counters; }
    MessageRing& ring() const noexcept;
    // Whether the ring holds a message that was taken from the kernel and not yet applied: what a
    // worker leaves that was stopped in between. Any process may look.
    bool has_messages() const noexcept;

    // Bits are indexed by 4 KiB page of the memory file; pages beyond the end are ignored (reading
    // them gives false).
    bool is_removed(std::uint64_t page) const noexcept;
    // Returns how many of the bits were clear before. Bits are never cleared.
    std::uint64_t set_removed(std::uint64_t first_page, std::uint64_t count) noexcept;
    bool any_removed(std::uint64_t first_page, std::uint64_t count) const noexcept;
    bool is_dirty(std::uint64_t page) const noexcept;
    std::uint64_t set_dirty(std::uint64_t first_page, std::uint64_t count) noexcept;
    // Worker only, before tracking begins.
    void clear_dirty() noexcept;
    // Copy of the bitmap, in whole 64-bit words; bits beyond the last page are clear.
    std::vector<std::uint64_t> dirty_bitmap() const;
    bool is_present(std::uint64_t page) const noexcept;
    // Worker only, like the touch log: one writer.
    std::uint64_t set_present(std::uint64_t first_page, std::uint64_t count) noexcept;
    // How many pages from `first_page` on, at most `limit`, are neither present nor removed
    // (wanted) or are one of them (not wanted): so that gaps can be walked in runs.
    std::uint64_t
    missing_run(std::uint64_t first_page, std::uint64_t limit, bool wanted) const noexcept;
    // Whether every page of `region` is present or removed: only then may it be unregistered.
    bool is_covered(const Region& region) const noexcept;

    // Recording sessions: notes the first touch of a page. Ignored in others and when full.
    void note_touch(std::uint64_t page) noexcept;
    // Copy of the touch log so far; indices beyond the memory are dropped, so are repeated ones.
    std::vector<std::uint32_t> touches() const;

    // Sessions of remote images: when a chunk (4 MiB) was read last, in units of
    // 2^kChunkUseShift ns. The worker notes it, 0 for chunks and sessions that have none.
    void note_chunk_use(std::uint64_t chunk, std::uint64_t now_ns) noexcept;
    std::uint32_t chunk_use(std::uint64_t chunk) const noexcept;

    std::uint64_t page_count() const noexcept { return info_.memory_size / kBitPage; }

    // Allocates every page, so that no write to the memory can fail later. ENOMEM/ENOSPC.
    Result<> populate() noexcept;
    // mlock() of the whole memory. EPERM/ENOMEM when RLIMIT_MEMLOCK forbids.
    Result<> lock_pages() noexcept;

    // The right to read and answer the userfaultfd. EAGAIN when another process has it.
    Result<> acquire_worker_lock() noexcept;
    // Who has it (pid in our namespace, 0 when it is outside), nullopt when nobody has.
    Result<std::optional<pid_t>> worker_lock_holder() const noexcept;

private:
    SessionMemory(Fd fd, std::byte* base, std::size_t size, SessionInfo info) noexcept;
    std::atomic<std::uint64_t>* removed_words() const noexcept;
    std::atomic<std::uint64_t>* dirty_words() const noexcept;
    std::atomic<std::uint64_t>* present_words() const noexcept;
    std::atomic<std::uint32_t>* touch_log() const noexcept;
    std::atomic<std::uint32_t>* chunk_uses(std::uint64_t chunk) const noexcept;
    void count_change() const noexcept;

    Fd fd_;
    std::byte* base_ = nullptr;
    std::size_t size_ = 0;
    SessionInfo info_;
};

// Whether a region table is fit to be served: at least one, at most kMaxRegions; known page sizes,
// everything aligned to them; neither addresses nor file ranges overlap or wrap around; all within
// `memory_size`. EINVAL or ERANGE with a text that names the region.
Result<> check_regions(std::span<const Region> regions, std::uint64_t memory_size);

// What a fault engine is called on the bus and in the journal: "none", "epoll", "io_uring".
std::string_view engine_name(FaultEngineKind kind);
// "checksum", "source-read", ...; "unknown" for a number nobody knows.
std::string_view failure_reason_name(std::uint32_t reason);
// "none", "running", ...; "unknown" for a number nobody knows.
std::string_view replay_state_name(std::uint32_t state);
// "off", "arming", "armed", "failed"
std::string_view track_state_name(std::uint32_t state);
// "none", "running", "done", "failed"
std::string_view populate_state_name(std::uint32_t state);
// "pressure", "foreign-image", ...
std::string_view replay_reason_name(std::uint32_t reason);
// How the working set is read, by SessionState::replay_io.
std::string_view replay_io_name(std::uint32_t io);

} // namespace thaw::protocol
