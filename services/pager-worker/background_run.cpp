// SPDX-License-Identifier: MIT

// When Background takes a step and when it holds back.

#include "background.hpp"
#include "clock.hpp"

#include <algorithm>
#include <cerrno>

namespace thaw::worker {

using protocol::ReplayReason;
using protocol::ReplayState;

namespace {

constexpr std::uint64_t kPressureInterval = 100 * kNsPerMs;

} // namespace

// Whether replay may go on now; if not, deadline_ says when to ask again.
bool Background::may_replay(std::uint64_t now) {
    if (!policy_.enabled) {
        set_replay(ReplayState::Paused, ReplayReason::Off);
        deadline_ = kNever; // a message ends this
        return false;
    }
    if (policy_.memory_pressure != 0 || policy_.io_pressure != 0) {
        if (now >= next_look_ns_) {
            under_pressure_ = pressure_.is_above(policy_.memory_pressure, policy_.io_pressure);
            next_look_ns_ = now + kPressureInterval;
        }
        if (under_pressure_) {
            set_replay(ReplayState::Paused, ReplayReason::Pressure);
            deadline_ = next_look_ns_;
            return false;
        }
    }
    if (state_.replay_state.load(kRelaxed) == static_cast<std::uint32_t>(ReplayState::Paused))
        set_replay(ReplayState::Running, ReplayReason::None);
    if (pace_.may_go(now)) return true;
    deadline_ = pace_.next(now);
    return false;
}

void Background::step(std::uint64_t now) {
    if (now < deadline_) return;
    if (quiesce_) {
        if (job_.mover && job_.cause == Cause::Replay)
            set_replay(ReplayState::Paused, ReplayReason::Quiesced);
        deadline_ = kNever;
        return;
    }
    if (!job_.mover) begin();
    if (!job_.mover) {
        if (now >= deadline_) deadline_ = kNever; // unless a next round was set
        return;
    }
    if (job_.cause == Cause::Replay && !may_replay(now)) return;
    run(now);
}

// What a step met that is no success: true when it was dealt with and deadline_ is set.
bool Background::hold_back(const BulkMover::Step& made, std::uint64_t now) {
    switch (made.outcome) {
    case FillOutcome::Done:
    case FillOutcome::Partial:
        busy_ = 0;
        return false;
    case FillOutcome::Busy: // a removal is under way; no event says when it is over
        bump(state_.counters.again);
        deadline_ = now + park_delay_ns(ParkReason::Busy, ++busy_);
        return true;
    case FillOutcome::NoMemory:
        deadline_ = now + park_delay_ns(ParkReason::Memory, std::min(++busy_, 8U));
        return true;
    default:
        job_.failed = SourceError{protocol::FailureReason::Install, made.errno_value};
        return false;
    }
}

void Background::advance(const BulkMover::Step& made, std::uint64_t now) {
    if (job_.cause == Cause::Populate) {
        state_.populate_done.store(static_cast<MemoryFeed&>(*job_.feed).position(), kRelaxed);
        return;
    }
    const std::uint64_t bytes = made.pages * protocol::kBitPage;
    bump(state_.replay_done, bytes);
    pace_.spent(bytes, now);
}

void Background::run(std::uint64_t now) {
    BulkMover& mover = *job_.mover;
    if (!job_.failed) {
        mover.pump();
        const auto made = mover.step();
        advance(made, now);
        if (hold_back(made, now)) return;
        // Complete goes on with the next piece: the more is in, the better.
        if (mover.error() && job_.cause == Cause::Replay) job_.failed = mover.error();
    }
    if (!job_.failed && !mover.is_done()) {
        mover.pump();
        deadline_ = mover.is_ready() || mover.is_done()
                        ? 0
                        : kNever; // the end of a read is an event of its own
        return;
    }
    deadline_ = mover.is_reading() ? kNever : 0;
    if (!mover.is_reading()) finish();
}

void Background::finish() {
    const auto failed = job_.failed;
    if (failed || job_.mover->error()) bump(state_.counters.source_errors);
    if (job_.cause == Cause::Populate) return end_populate();
    if (failed) {
        const bool rotten = failed->reason == protocol::FailureReason::Checksum;
        return end_replay(
            ReplayState::Stopped, rotten ? ReplayReason::Checksum : ReplayReason::Source,
            rotten ? "bytes are not those that were sealed" : errno_text(failed->errno_value)
        );
    }
    const auto* set = dynamic_cast<WorkingSetFeed*>(job_.feed.get());
    const bool cut = set != nullptr ? set->is_over_budget()
                                    : static_cast<MemoryFeed&>(*job_.feed).is_over_budget();
    end_replay(
        cut ? ReplayState::Stopped : ReplayState::Done,
        cut ? ReplayReason::Budget : ReplayReason::None, "the byte budget is used up"
    );
}

void Background::read_ended(std::uint64_t token, std::int64_t result) {
    if (token == WorkingSetLoader::kToken)
        loader_->read_ended(result);
    else if (job_.mover)
        job_.mover->read_ended(token, result);
    else
        return;
    if (!quiesce_ && deadline_ == kNever) deadline_ = 0;
}

} // namespace thaw::worker
