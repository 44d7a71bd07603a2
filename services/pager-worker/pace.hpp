// SPDX-License-Identifier: MIT
#pragma once

// How fast pages may go ahead of the guest. Pure.

#include <cstdint>

namespace thaw::worker {

// After each step it waits until the step is paid for at `rate` bytes per second.
class Pace {
public:
    void set_rate(std::uint64_t bytes_per_second) { rate_ = bytes_per_second; } // 0: no limit
    bool may_go(std::uint64_t now) const { return rate_ == 0 || now >= free_ns_; }
    // When may_go() turns true.
    std::uint64_t next(std::uint64_t now) const { return may_go(now) ? now : free_ns_; }
    void spent(std::uint64_t bytes, std::uint64_t now);

private:
    std::uint64_t rate_ = 0;
    std::uint64_t free_ns_ = 0; // what was spent is paid off then
};

} // namespace thaw::worker
