// SPDX-License-Identifier: MIT
#pragma once

// Which pages the guest changes, by write-protecting them: the dirty bitmap of the session memory,
// set before a page can be written. Everything that puts pages into the VMM goes through here.
//
// What is promised while TrackState is Armed: a page whose bit is clear is as it was when tracking
// began, and one whose bit is set and that is absent is zero. So the bit is set once a page is
// there and before its protection is lifted, before a page is filled that cannot be protected
// (zeros: UFFDIO_ZEROPAGE has no such mode) and when a page is given back. Whoever begins it sees
// to it that the VM stands still and has no I/O under way: a page that the kernel has pinned for
// I/O is written without a fault. What cannot be promised is Failed, for good.
//
// Ranges that are mapped anew behind our back are no longer protected, and nobody says so: vouching
// protects all clean pages once more, which the kernel refuses where it does not watch.
//
// It ends by lifting the protection everywhere, never by unregistering, which would make zeros of
// missing pages. Each state is in the session memory, so a successor goes on.

#include "installer.hpp"
#include "protocol/session_memory.hpp"
#include "region_map.hpp"

#include <cstdint>
#include <functional>

namespace thaw::worker {

class Tracker {
public:
    // All outlive it.
    Tracker(protocol::SessionMemory& memory, const RegionMap& regions, const Installer& installer)
        : memory_(memory), state_(memory.state()), regions_(regions), installer_(installer) {}
    // Hears once why the tracking cannot be relied on.
    void set_failed_hook(std::function<void(int errno_value)> hook) { failed_ = std::move(hook); }

    // `written`: a guest waits to write to it. `length` is of whole pages from `at` on.
    FillResult
    copy(const PageLocation& at, const std::byte* data, std::uint64_t length, bool written);
    FillResult zero(const PageLocation& at, std::uint64_t length);
    // A guest waits to write to a page that is there.
    FillResult allow_write(const PageLocation& at);
    void removed(BitRange pages);
    // Pages are in a state that nobody can vouch for. Nothing, unless it is tracked.
    void fail(int errno_value);

    // Before the first fill of this worker, and before the ring is replayed.
    void begin();
    // The broker's wishes have changed.
    void attend();
    // Nothing that was asked for is still to be done.
    bool is_settled() const { return task_ == Task::None; }
    std::uint64_t next_deadline() const { return is_settled() ? UINT64_MAX : deadline_; }
    // One step of arming, vouching or lifting: some milliseconds at most.
    void step(std::uint64_t now);

private:
    enum class Task { None, Protect, Vouch, Lift };
    bool is_tracking() const;
    void note(const PageLocation& at, std::uint64_t length);
    bool register_all();
    void start(Task task);
    bool find_range();
    FillResult work_on_range();
    void finish();
    void set_state(protocol::TrackState state);
    protocol::TrackState state() const;

    protocol::SessionMemory& memory_;
    protocol::SessionState& state_;
    const RegionMap& regions_;
    const Installer& installer_;
    std::function<void(int)> failed_;
    Task task_ = Task::None;
    std::uint32_t vouch_ = 0;  // SessionControl::vouch that the task answers to
    std::size_t region_ = 0;   // where the task is
    std::uint64_t offset_ = 0; // in that region
    std::uint64_t length_ = 0; // of the range that it works on
    std::uint64_t deadline_ = 0;
    unsigned busy_ = 0; // EAGAINs in a row
};

} // namespace thaw::worker
