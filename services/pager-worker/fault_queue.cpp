// SPDX-License-Identifier: MIT
#include "fault_queue.hpp"

#include "clock.hpp"

#include <algorithm>

namespace thaw::worker {

std::optional<Fault> FaultQueue::take(std::uint64_t now) {
    const auto due =
        std::ranges::find_if(parked_, [now](const Fault& f) { return f.retry_ns <= now; });
    if (due != parked_.end()) {
        const Fault fault = *due;
        parked_.erase(due);
        return fault;
    }
    if (pending_.empty()) return std::nullopt;
    const Fault fault = pending_.front();
    pending_.pop_front();
    return fault;
}

void FaultQueue::park(Fault fault, ParkReason reason, std::uint64_t now) {
    if (fault.reason != reason) fault.attempts = 0;
    fault.reason = reason;
    ++fault.attempts;
    fault.retry_ns = now + park_delay_ns(reason, fault.attempts);
    parked_.push_back(fault);
}

void FaultQueue::park_pending(const Fault& like) {
    for (Fault& fault : pending_) {
        fault.reason = ParkReason::Busy;
        fault.attempts = 1;
        fault.retry_ns = like.retry_ns;
        parked_.push_back(fault);
    }
    pending_.clear();
}

bool FaultQueue::waits_for_source() const {
    return std::ranges::any_of(parked_, [](const Fault& f) {
        return f.reason != ParkReason::Busy;
    });
}

std::uint64_t FaultQueue::next_deadline() const {
    std::uint64_t deadline = kNever;
    for (const Fault& fault : parked_)
        deadline = std::min(deadline, fault.retry_ns);
    return deadline;
}

std::uint64_t FaultQueue::oldest() const {
    std::uint64_t oldest = kNever;
    if (!pending_.empty()) oldest = pending_.front().taken_ns;
    for (const Fault& fault : parked_)
        oldest = std::min(oldest, fault.taken_ns);
    return oldest == kNever ? 0 : oldest;
}

} // namespace thaw::worker
