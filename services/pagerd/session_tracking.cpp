// SPDX-License-Identifier: MIT
// What the guest writes: the wish is in the session memory, where each worker finds it; here are
// only the callers who wait until a worker has come up to it.
#include "api/pager1.hpp"
#include "bus/errors.hpp"
#include "event/priorities.hpp"
#include "sealed_memfd.hpp"
#include "session.hpp"

#include <span>
#include <utility>

namespace thaw::pagerd {

using protocol::TrackState;

namespace {

// Arming takes 0.1 s per 4 GiB, and a new worker may have to begin it anew.
constexpr Microseconds kTrackTimeout = 30 * kUsecPerSec;

Error tracking_failed(const protocol::SessionState& state) {
    const auto code = static_cast<int>(state.track_errno.load(std::memory_order_relaxed));
    return {
        pager1::error::kTrackingFailed, EIO,
        fmt::format("nobody can vouch for what was noted: {}", errno_text(code))
    };
}

} // namespace

bool Session::is_tracked() const {
    return memory_.control().track.load(std::memory_order_relaxed) != 0;
}

void Session::start_tracking(BusMessage& call) {
    if (state_ != SessionState::Serving) return call.reply_error(not_serving().error());
    if ((memory_.info().flags & protocol::kFlagRecording) != 0)
        return call.reply_error(
            Error(kErrorInvalidArgs, EINVAL, "a session records or tracks, not both")
        );
    if (!is_tracked()) memory_.request_tracking(true);
    await_tracking({.call = call, .wanted = Change::StartTracking});
}

void Session::stop_tracking(BusMessage& call) {
    if (state_ != SessionState::Serving) return (void)call.reply_empty(); // nothing is noted
    if (is_tracked()) memory_.request_tracking(false);
    await_tracking({.call = call, .wanted = Change::StopTracking});
}

void Session::take_dirty(BusMessage& call) {
    if (state_ != SessionState::Serving) return call.reply_error(not_serving().error());
    if (!is_tracked())
        return call.reply_error(
            Error(pager1::error::kNotTracking, ENODATA, fmt::format("{} is not tracked", name()))
        );
    await_tracking({.call = call, .wanted = Change::TakeDirty, .vouch = memory_.request_vouching()}
    );
}

void Session::await_tracking(TrackCall call) {
    track_calls_.push_back(std::move(call));
    attend();
    // For the last of them: an earlier one that is not answered has met the same worker.
    auto deadline = broker_.loop.add_timer(
        kTrackTimeout, [this] { give_up_tracking(); }, "session-tracking", priority::kTimer
    );
    if (deadline) track_deadline_ = std::move(*deadline);
}

void Session::give_up_tracking() {
    for (auto& waiting : std::exchange(track_calls_, {})) {
        // Nobody waits any more for what would begin at a moment that nobody chose.
        if (waiting.wanted == Change::StartTracking) memory_.request_tracking(false);
        waiting.call.reply_error(
            Error(pager1::error::kTrackingFailed, ETIMEDOUT, "the worker did not answer in time")
        );
    }
    attend();
    changed({"Tracking"});
}

void Session::answer_tracking() {
    if (track_calls_.empty()) return;
    auto waiting = std::exchange(track_calls_, {});
    bool stopped = false;
    for (auto& call : waiting) {
        if (!answer_one(call))
            track_calls_.push_back(std::move(call));
        else
            stopped = stopped || call.wanted == Change::StopTracking;
    }
    if (track_calls_.empty()) track_deadline_.reset();
    // Every page was in, and only the tracking held on to the pager.
    const auto phase = memory_.state().phase.load(std::memory_order_acquire);
    if (stopped && phase == static_cast<std::uint32_t>(protocol::WorkerPhase::Complete))
        on_complete();
}

// False: it goes on waiting.
bool Session::answer_one(TrackCall& call) {
    const auto& state = memory_.state();
    const auto now = static_cast<TrackState>(state.tracking.load(std::memory_order_acquire));
    if (call.wanted == Change::StopTracking) {
        if (now != TrackState::Off && !is_tracked()) return false;
        (void)call.call.reply_empty();
        return true;
    }
    if (now == TrackState::Failed) {
        call.call.reply_error(tracking_failed(state));
        return true;
    }
    if (!is_tracked()) { // somebody has stopped it meanwhile
        call.call.reply_error(
            Error(pager1::error::kNotTracking, ENODATA, fmt::format("{} is not tracked", name()))
        );
        return true;
    }
    if (now != TrackState::Armed) return false;
    if (call.wanted == Change::StartTracking) {
        (void)call.call.reply_empty();
        return true;
    }
    const auto vouched = state.vouched.load(std::memory_order_acquire);
    if (static_cast<std::int32_t>(vouched - call.vouch) < 0) return false;
    const auto words = memory_.dirty_bitmap();
    auto bitmap = make_sealed_memfd("thaw-dirty", std::as_bytes(std::span(words)));
    if (!bitmap) {
        call.call.reply_error(bitmap.error());
        return true;
    }
    if (auto sent = call.call.reply("h", bitmap->get()); !sent)
        log_warning(log_fields(), "{}", sent.error().message());
    return true;
}

} // namespace thaw::pagerd
