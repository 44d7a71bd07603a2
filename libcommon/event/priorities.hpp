// SPDX-License-Identifier: MIT
#pragma once

// Dispatch order of event sources in every daemon of ours; smaller runs first.

#include <cstdint>

namespace thaw::priority {

inline constexpr std::int64_t kTerminate = -110; // SIGTERM, SIGINT
inline constexpr std::int64_t kVital = -100;     // what keeps VMs alive: worker channels, VMM exits
inline constexpr std::int64_t kNotify = -5;      // pipes and sockets of our own processes
inline constexpr std::int64_t kChild = -4;       // child exits
inline constexpr std::int64_t kBus = 0;
inline constexpr std::int64_t kTimer = 5;
inline constexpr std::int64_t kReconcile = 100; // deferred looks at the whole state
inline constexpr std::int64_t kCollect = 101;   // dropping what nobody needs any more

} // namespace thaw::priority
