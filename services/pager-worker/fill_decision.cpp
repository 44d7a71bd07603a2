// SPDX-License-Identifier: MIT
#include "fill_decision.hpp"

#include "clock.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>

namespace thaw::worker {

FillKind decide_fill(const PageFacts& facts) {
    if (!facts.removed && !facts.image_zero) return FillKind::Data;
    return facts.page_size == protocol::kBitPage ? FillKind::ZeroPage : FillKind::CopyZeros;
}

FillOutcome judge_fill(int errno_value, std::int64_t done, std::uint64_t length) {
    if (errno_value == 0) return FillOutcome::Done;
    if (done > 0 && static_cast<std::uint64_t>(done) < length) return FillOutcome::Partial;
    switch (errno_value) {
    case EAGAIN:
    case EINTR:
        return FillOutcome::Busy;
    case EEXIST:
        return FillOutcome::Present;
    case ENOENT:
        return FillOutcome::Gone;
    case ESRCH:
        return FillOutcome::VmmGone;
    case ENOMEM:
    case ENOSPC:
        return FillOutcome::NoMemory;
    case EFAULT:
        return FillOutcome::SourceFault;
    default:
        return FillOutcome::Broken;
    }
}

bool PresentStreak::lacks_memory(
    std::uint64_t address, std::uint64_t page_size, std::uint64_t batch_ns
) {
    constexpr unsigned kBelievable = 16;
    if (page_size == protocol::kBitPage) return false;
    if (address != address_) {
        address_ = address;
        batches_ = 0;
    }
    if (batch_ns != batch_ns_) ++batches_;
    batch_ns_ = batch_ns;
    return batches_ > kBelievable;
}

void PresentStreak::filled(std::uint64_t address) {
    if (address == address_) batches_ = 0;
}

std::uint64_t park_delay_ns(ParkReason reason, unsigned attempt) {
    const unsigned doublings = std::min(attempt == 0 ? 0 : attempt - 1, 20U);
    switch (reason) {
    case ParkReason::Busy: // the other side needs microseconds of CPU, rarely more
        return std::min((2 * kNsPerUs) << doublings, 500 * kNsPerUs);
    case ParkReason::Source:
        return std::min((2 * kNsPerMs) << (2 * std::min(doublings, 8U)), 200 * kNsPerMs);
    case ParkReason::Memory:
        return std::min(kNsPerMs << doublings, 100 * kNsPerMs);
    }
    return kNsPerMs;
}

bool is_lost(ParkReason reason, unsigned attempts) {
    constexpr unsigned kSourceAttempts = 4;  // 2 + 8 + 32 ms of patience
    constexpr unsigned kMemoryAttempts = 32; // about 2.6 s: the OOM killer may be at work
    switch (reason) {
    case ParkReason::Busy:
        return false;
    case ParkReason::Source:
        return attempts >= kSourceAttempts;
    case ParkReason::Memory:
        return attempts >= kMemoryAttempts;
    }
    return true;
}

LossAction decide_loss(protocol::LossPolicy policy, bool kernel_can_poison) {
    return policy == protocol::LossPolicy::Poison && kernel_can_poison ? LossAction::Poison
                                                                       : LossAction::Park;
}

std::size_t latency_bucket(std::uint64_t latency_ns) {
    const auto width = static_cast<std::size_t>(std::bit_width(latency_ns / kNsPerUs));
    return std::min(width, protocol::kLatencyBuckets - 1);
}

} // namespace thaw::worker
