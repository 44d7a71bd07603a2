// SPDX-License-Identifier: MIT
#pragma once

// What a level leads to: pure decisions. The guardian only asks for writers to be paused; the
// restore manager pauses them and reports. Times are µs of CLOCK_MONOTONIC.

#include "api/diskguard1.hpp"
#include "config.hpp"

#include <optional>
#include <string>
#include <vector>

namespace thaw::diskguard {

using diskguard1::Writers;

// Paused at `full`, and until there is room without what a release gave: otherwise the writers
// would only fill the reserve's bytes. `without_reserve` is the level with those bytes taken again.
Writers decide_writers(Writers policy, Writers current, Level level, Level without_reserve);

struct AutoRelease {
    ReleasePolicy policy = ReleasePolicy::Manual;
    Level level = Level::Unknown;
    std::uint64_t releasable = 0;
    bool writers_stopped = false;     // as the restore manager reported since the level is full
    std::optional<Microseconds> last; // the last automatic release
    Microseconds cooldown = 0;
};
bool wants_release(const AutoRelease& question, Microseconds now);

// ---- hooks -------------------------------------------------------------------------------------

inline constexpr const char* kEmergencyTarget = "thaw-disk-emergency.target";
// The instance is the mount point, escaped as systemd-escape --path has it.
std::string path_escape(std::string_view path);
// Targets that are to be active for a volume at this level: thaw-disk-low@X.target and so on.
std::vector<std::string> level_targets(std::string_view mount_point, Level level);

} // namespace thaw::diskguard
