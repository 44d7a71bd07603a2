// SPDX-License-Identifier: MIT
#pragma once

// Turns the loop until something is true, at most `limit`. False when it never was.

#include "event/event.hpp"

#include <concepts>

namespace thaw::fakes {

template <std::predicate Condition>
bool run_until(EventLoop& loop, Condition condition, Microseconds limit = 10 * kUsecPerSec) {
    const auto deadline = now_monotonic() + limit;
    while (!condition()) {
        const auto now = now_monotonic();
        if (now >= deadline) return false;
        if (!loop.run_once(deadline - now)) return false;
    }
    return true;
}

// Turns the loop for a while, for things that must not happen.
inline void run_for(EventLoop& loop, Microseconds duration) {
    (void)run_until(loop, [] { return false; }, duration);
}

} // namespace thaw::fakes
