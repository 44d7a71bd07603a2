// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <ctime>

namespace thaw::worker {

inline constexpr std::uint64_t kNsPerUs = 1'000;
inline constexpr std::uint64_t kNsPerMs = 1'000'000;
inline constexpr std::uint64_t kNever = UINT64_MAX; // as a deadline

// CLOCK_MONOTONIC in nanoseconds: the clock of every time in the session memory.
inline std::uint64_t now_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

} // namespace thaw::worker
