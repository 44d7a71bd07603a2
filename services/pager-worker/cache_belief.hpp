// SPDX-License-Identifier: MIT
#pragma once

// Whether the page cache is believed to have a file without looking. A look costs a system call
// per fault; a page that is not there after all makes the kernel wait for the disk inside the
// ioctl, and every other fault with it. So it is believed only after many looks in a row that found
// the page, and after each surprise (the kernel counts those as major faults) twice as many are
// asked for. Pure.

#include <algorithm>
#include <cstdint>

namespace thaw::worker {

class CacheBelief {
public:
    static constexpr std::uint64_t kLooks = 64;
    static constexpr std::uint64_t kMostLooks = 1 << 20;

    bool holds() const { return in_a_row_ >= needed_; }
    void looked(bool at_hand) { in_a_row_ = at_hand ? in_a_row_ + 1 : 0; }
    void surprised() {
        in_a_row_ = 0;
        needed_ = std::min(needed_ * 2, kMostLooks);
    }

private:
    std::uint64_t in_a_row_ = 0;
    std::uint64_t needed_ = kLooks;
};

} // namespace thaw::worker
