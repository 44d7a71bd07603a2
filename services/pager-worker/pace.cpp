// SPDX-License-Identifier: MIT
#include "pace.hpp"

#include <algorithm>

namespace thaw::worker {

void Pace::spent(std::uint64_t bytes, std::uint64_t now) {
    if (rate_ == 0) return;
    constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
    const std::uint64_t cost =
        bytes > UINT64_MAX / kNsPerSecond ? UINT64_MAX / 2 : bytes * kNsPerSecond / rate_;
    free_ns_ = std::max(free_ns_, now) + cost;
}

} // namespace thaw::worker
