// SPDX-License-Identifier: MIT
#pragma once

// /etc/thaw/diskguardd.conf and its drop-ins. Read once at start. The defaults are those of the
// sample beside this file; a test compares.

#include "api/diskguard1.hpp"
#include "config/ini.hpp"
#include "core/names.hpp"
#include "core/text.hpp"
#include "level_policy.hpp"
#include "reserve/plan.hpp"
#include "reserve/rearm.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::diskguard {

inline constexpr std::uint64_t kGibibyte = 1024 * reserve::kMiB;

enum class ReleasePolicy : std::uint8_t { Manual, Auto };
inline constexpr EnumTable kReleasePolicyNames{std::array{
    std::pair{ReleasePolicy::Manual, std::string_view("manual")},
    std::pair{ReleasePolicy::Auto, std::string_view("auto")},
}};

struct Config {
    // [Guard]
    std::vector<std::string> paths{paths::kImages};
    reserve::SizeSetting reserve;
    reserve::RearmPolicy rearm;
    std::uint64_t max_leases = 1024;
    PollLimits poll;
    bool pressure = true;

    // [Levels]
    Thresholds bytes{{10 * kGibibyte, 1000}, {2 * kGibibyte, 500}, {256 * reserve::kMiB, 100}};
    Thresholds inodes{{100000, 1000}, {20000, 500}, {1000, 100}};
    std::uint64_t margin_percent = 25;
    Microseconds settle = 10 * kUsecPerSec;

    // [Policy]
    ReleasePolicy release = ReleasePolicy::Manual;
    Microseconds release_cooldown = 600 * kUsecPerSec;
    diskguard1::Writers writers = diskguard1::Writers::Continue;
};

struct LoadedConfig {
    Config config;
    std::vector<ConfigWarning> warnings;
};

// The known keys, storing into `config` (which must outlive them).
std::vector<ConfigKey> config_keys(Config& config);
// What single keys cannot know: mends combinations that make no sense, one warning for each.
std::vector<ConfigWarning> reconcile(Config& config);
// $THAW_DISKGUARDD_CONFIG names another file than the installed one (its .d folder is read too).
Result<LoadedConfig> load_config();

// "12.5%" as permyriad; EINVAL above 100 %.
Result<std::uint64_t> parse_permyriad(std::string_view text);

} // namespace thaw::diskguard
