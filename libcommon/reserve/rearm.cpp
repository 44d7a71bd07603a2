// SPDX-License-Identifier: MIT
#include "reserve/rearm.hpp"

#include <algorithm>

namespace thaw::reserve {

namespace {

// factor and missing come from an admin and a disk: their product need not fit.
std::uint64_t times(std::uint64_t a, std::uint64_t b) {
    std::uint64_t product = 0;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

} // namespace

RearmDecision decide_rearm(
    const RearmPolicy& policy, const Measurement& measured, Microseconds now, RearmClock& clock
) {
    RearmDecision decision{
        .free = measured.space.available,
        .needed = measured.missing,
        .threshold = times(policy.factor, measured.missing),
    };
    const bool released_meanwhile = measured.missing > clock.last_missing;
    clock.last_missing = measured.missing;
    if (measured.missing == 0) {
        clock.roomy_since.reset();
        return decision;
    }
    decision.inodes_short =
        measured.space.inodes_total != 0 &&
        measured.space.inodes_available < times(policy.factor, measured.missing_chunks);
    if (decision.free < decision.threshold || decision.inodes_short) {
        decision.inodes_short = decision.inodes_short && decision.free >= decision.threshold;
        clock.roomy_since.reset();
        decision.action = RearmAction::Deferred;
        return decision;
    }
    if (!clock.roomy_since || released_meanwhile) clock.roomy_since = now;
    const auto waited = now - std::min(now, *clock.roomy_since);
    if (waited < policy.dwell) {
        decision.action = RearmAction::Waiting;
        decision.wait = policy.dwell - waited;
        return decision;
    }
    decision.action = RearmAction::Lay;
    return decision;
}

HealAction heal_action(ChunkHealth health) {
    switch (health) {
    case ChunkHealth::CutShort:
    case ChunkHealth::Sparse:
        return HealAction::Refill;
    case ChunkHealth::HardLinked:
    case ChunkHealth::Symlink:
    case ChunkHealth::NotRegular:
        return HealAction::Replace;
    case ChunkHealth::TooLong:
        return HealAction::CutBack;
    case ChunkHealth::Exposed:
        return HealAction::Restrict;
    case ChunkHealth::Unwritten:
        return HealAction::Rewrite;
    case ChunkHealth::Healthy:
    case ChunkHealth::Absent:
    case ChunkHealth::Shared:
    case ChunkHealth::Compressed:
        break;
    }
    return HealAction::None;
}

bool needs_healing(const Measurement& measured) {
    if (measured.leftovers > 0 || (measured.holds() && !measured.text)) return true;
    return std::ranges::any_of(measured.chunks, [](const Chunk& chunk) {
        return heal_action(chunk.health) != HealAction::None;
    });
}

} // namespace thaw::reserve
