// SPDX-License-Identifier: MIT
#include "settle.hpp"

#include <algorithm>

namespace thaw::restore {

SettleDetector::Verdict
SettleDetector::observe(Microseconds now, std::optional<std::uint64_t> faults) {
    const auto elapsed = now > began_ ? now - began_ : 0;
    // Who cannot tell has not seen quiet: the ticks begin anew.
    if (!faults) quiet_ = 0;
    if (faults && *faults >= last_) {
        const auto fresh = *faults - last_;
        last_ = *faults;
        busiest_ = std::max(busiest_, fresh);
        const bool quiet = fresh <= std::max(kQuietFaults, busiest_ / kQuietShare);
        quiet_ = quiet ? quiet_ + 1 : 0;
    }
    if (last_ > 0 && elapsed >= kSettleAtLeast && quiet_ >= kSettleQuietTicks)
        return Verdict::Settled;
    if (elapsed < limit_) return Verdict::Waiting;
    return last_ > 0 ? Verdict::Capped : Verdict::Idle;
}

} // namespace thaw::restore
