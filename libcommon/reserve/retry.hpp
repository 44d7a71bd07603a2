// SPDX-License-Identifier: MIT
#pragma once

// A system call that a signal interrupted is made again, but not for ever: fallocate() starts from
// the beginning each time.

#include <cerrno>

namespace thaw::reserve {

inline constexpr int kInterruptions = 64;

// call() returns below 0 with errno for a failure.
template <class F>
auto retry(F&& call) {
    auto result = call();
    for (int i = 0; result < 0 && errno == EINTR && i < kInterruptions; i++)
        result = call();
    return result;
}

} // namespace thaw::reserve
