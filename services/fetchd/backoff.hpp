// SPDX-License-Identifier: MIT
#pragma once

// How long a server is left alone after a failed try.

#include "core/text.hpp"

#include <algorithm>
#include <cstdint>

namespace thaw::fetchd {

// `failed` tries so far, at least 1; `chance` of [0, 1) adds up to a quarter, so that what failed
// together does not come back together.
inline Microseconds
retry_delay(std::uint64_t failed, Microseconds first, Microseconds most, double chance) {
    constexpr std::uint64_t kMostDoublings = 20;
    const auto doubled = first << std::min(failed - 1, kMostDoublings);
    const auto delay = std::min(std::max(doubled, first), std::max(first, most));
    return delay + static_cast<Microseconds>(static_cast<double>(delay) * chance / 4);
}

} // namespace thaw::fetchd
