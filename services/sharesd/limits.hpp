// SPDX-License-Identifier: MIT
#pragma once

// How many descriptors a daemon may have: what was asked for, what it got, what a guest can use up.
// Pure decisions.

#include "dialect.hpp"

#include <cstdint>
#include <string_view>

namespace thaw::sharesd {

struct NofileLimits {
    std::uint64_t soft = 0;
    std::uint64_t hard = 0;
};
// The row "Max open files" of /proc/PID/limits.
Result<NofileLimits> parse_limits(std::string_view text);

// Asked for, as far as the kernel has numbers for it.
std::uint64_t clamp_limit(std::uint64_t wanted, std::uint64_t nr_open);

enum class LimitVerdict { Enough, Degraded, TooLow };
LimitVerdict judge_limit(std::uint64_t wanted, std::uint64_t effective, OnLowLimit on_low);

// Of the limit, what the guest can use up.
std::uint64_t guest_budget(std::uint64_t limit, Dialect dialect, std::uint64_t threads);
// Of the open descriptors, what the guest uses.
std::uint64_t guest_use(std::uint64_t open, Dialect dialect);
// The next descriptor, or one soon after it, is refused.
bool is_exhausted(std::uint64_t used, std::uint64_t budget);

} // namespace thaw::sharesd
