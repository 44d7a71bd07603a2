// SPDX-License-Identifier: MIT
#include "tracker.hpp"

#include "clock.hpp"

#include <algorithm>
#include <cerrno>

namespace thaw::worker {

using protocol::kBitPage;
using protocol::TrackState;

namespace {

// 16384 pages: some 1.5 ms of UFFDIO_WRITEPROTECT at 96 ns a page.
constexpr std::uint64_t kStepBytes = 64 << 20;

} // namespace

TrackState Tracker::state() const {
    return static_cast<TrackState>(state_.tracking.load(std::memory_order_acquire));
}

void Tracker::set_state(TrackState state) {
    state_.tracking.store(static_cast<std::uint32_t>(state), std::memory_order_release);
}

bool Tracker::is_tracking() const {
    const TrackState now = state();
    return now == TrackState::Armed || now == TrackState::Arming;
}

void Tracker::note(const PageLocation& at, std::uint64_t length) {
    memory_.set_dirty(at.first_bit(), length / kBitPage);
}

// A page whose bit is set is there, or was given back, or is zero in the image: whoever exports
// takes one that is absent for zeros. So a page with content gets its bit only once it is in, also
// when a writer waits for it, who may be gone by the time that a successor would fill it.
FillResult
Tracker::copy(const PageLocation& at, const std::byte* data, std::uint64_t length, bool written) {
    if (!is_tracking()) return installer_.copy(at.address, data, length, CopyMode::Plain);
    const auto mode = written ? CopyMode::ProtectedAsleep : CopyMode::Protected;
    const FillResult result = installer_.copy(at.address, data, length, mode);
    if (result.errno_value == EINVAL) {
        // The kernel does not watch writes there: the page must come in all the same.
        fail(result.errno_value);
        return installer_.copy(at.address, data, length, CopyMode::Plain);
    }
    if (!written || result.outcome != FillOutcome::Done) return result;
    // One that could not be let go now tries again, and finds the page there.
    if (allow_write(at).outcome != FillOutcome::Done) installer_.wake(at.address, length);
    return result;
}

FillResult Tracker::zero(const PageLocation& at, std::uint64_t length) {
    if (is_tracking()) note(at, length);
    return installer_.zero(at.address, length);
}

FillResult Tracker::allow_write(const PageLocation& at) {
    if (is_tracking()) note(at, at.page_size);
    return installer_.unprotect(at.address, at.page_size);
}

void Tracker::removed(BitRange pages) {
    if (is_tracking()) memory_.set_dirty(pages.first, pages.count);
}

void Tracker::fail(int errno_value) {
    if (!is_tracking()) return;
    state_.track_errno.store(static_cast<std::uint32_t>(errno_value), std::memory_order_relaxed);
    set_state(TrackState::Failed);
    start(Task::Lift);
    if (failed_) failed_(errno_value);
}

bool Tracker::register_all() {
    for (const auto& region : regions_.regions()) {
        const int error = installer_.watch_writes(region.base, region.size);
        if (error == 0) continue;
        fail(error);
        return false;
    }
    return true;
}

void Tracker::begin() {
    const bool wanted = memory_.control().track.load(std::memory_order_acquire) != 0;
    const std::uint64_t pages = memory_.page_count();
    const bool untouched = memory_.missing_run(0, pages, true) == pages;
    if (!wanted || !untouched || state() == TrackState::Failed) return;
    // Nothing is in that would have to be protected, and nobody has read a message yet.
    set_state(TrackState::Arming);
    if (register_all()) set_state(TrackState::Armed);
}

void Tracker::attend() {
    const auto& control = memory_.control();
    const bool wanted = control.track.load(std::memory_order_acquire) != 0;
    const std::uint32_t vouch = control.vouch.load(std::memory_order_acquire);
    const TrackState now = state();
    if (!wanted) {
        if (now != TrackState::Off) start(Task::Lift);
    } else if (now == TrackState::Off) {
        memory_.clear_dirty();
        set_state(TrackState::Arming);
        if (register_all()) start(Task::Protect);
    } else if (now == TrackState::Arming) { // of a predecessor, unless we are at it
        if (task_ != Task::Protect && register_all()) start(Task::Protect);
    } else if (now == TrackState::Armed && vouch != state_.vouched.load()) {
        vouch_ = vouch;
        start(Task::Vouch);
    }
}

void Tracker::start(Task task) {
    task_ = task;
    region_ = 0;
    offset_ = 0;
    length_ = 0;
    deadline_ = 0;
    busy_ = 0;
}

// The next range that the task has something to do with; false: there is none.
bool Tracker::find_range() {
    for (; region_ < regions_.regions().size(); ++region_, offset_ = 0) {
        const auto& region = regions_.regions()[region_];
        if (task_ == Task::Vouch) // what is dirty anyway needs no proof
            while (offset_ < region.size && memory_.is_dirty((region.offset + offset_) / kBitPage))
                offset_ += kBitPage;
        if (offset_ >= region.size) continue;
        const std::uint64_t most = std::min(kStepBytes, region.size - offset_);
        length_ = most;
        if (task_ != Task::Vouch) return true;
        for (length_ = kBitPage; length_ < most; length_ += kBitPage)
            if (memory_.is_dirty((region.offset + offset_ + length_) / kBitPage)) break;
        return true;
    }
    return false;
}

FillResult Tracker::work_on_range() {
    const std::uint64_t address = regions_.regions()[region_].base + offset_;
    return task_ == Task::Lift ? installer_.unprotect(address, length_)
                               : installer_.protect(address, length_);
}

void Tracker::step(std::uint64_t now) {
    if (is_settled() || now < deadline_) return;
    for (std::uint64_t done = 0; done < kStepBytes;) {
        if (!find_range()) return finish();
        const FillResult result = work_on_range();
        if (result.outcome == FillOutcome::Busy) { // a removal is under way
            deadline_ = now + park_delay_ns(ParkReason::Busy, ++busy_);
            return;
        }
        if (result.outcome == FillOutcome::VmmGone) return finish();
        // Where nobody watches there is nothing to lift.
        if (result.outcome != FillOutcome::Done && task_ != Task::Lift)
            return fail(result.errno_value);
        busy_ = 0;
        offset_ += length_;
        done += length_ + kBitPage * 16; // a call costs as much as some pages
    }
    deadline_ = 0;
}

void Tracker::finish() {
    const Task done = std::exchange(task_, Task::None);
    const bool wanted = memory_.control().track.load(std::memory_order_acquire) != 0;
    if (done == Task::Protect) set_state(TrackState::Armed);
    if (done == Task::Lift && !wanted) set_state(TrackState::Off);
    if (done == Task::Vouch) state_.vouched.store(vouch_, std::memory_order_release);
    attend(); // a wish may have come meanwhile
}

} // namespace thaw::worker
