// SPDX-License-Identifier: MIT
#pragma once

// /etc/thaw/sharesd.conf and its drop-ins, section [Shares]. Read once at start.

#include "config/ini.hpp"
#include "core/names.hpp"
#include "share_options.hpp"
#include "source_policy.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::sharesd {

struct Config {
    // Directories that may be shared, with all below them.
    std::vector<std::string> allowed_sources;
    std::uint64_t max_shares = 1024;
    // The first of these that exists.
    std::vector<std::string> programs;

    std::uint64_t limit_nofile = 524288;
    OnLowLimit on_low_limit = OnLowLimit::Fail;
    HandleMode handles = HandleMode::Auto;
    std::uint64_t memory_high = kInfinity;

    std::vector<std::string> churning_caches = default_churning_caches();
    ChurnPolicy churn_read_write = ChurnPolicy::Refuse;
    ChurnPolicy churn_read_only = ChurnPolicy::Warn;

    // Restarts of a share's daemon within the interval; the delay doubles with each.
    std::uint64_t restart_limit = 5;
    Microseconds restart_interval = 60 * kUsecPerSec;
    Microseconds restart_delay = 100 * kUsecPerMsec;
    Microseconds longest_restart_delay = 10 * kUsecPerSec;

    // Template of a unit that makes a guest drop its caches; its instance is the VM. Empty: none.
    std::string drop_caches_unit;
    Microseconds drop_caches_interval = 60 * kUsecPerSec;

    // How long a daemon that says nothing may take to fail before it counts as started.
    Microseconds settle = 500 * kUsecPerMsec;
    // From the start of a share's unit to its running, and for its end.
    Microseconds start_timeout = 15 * kUsecPerSec;

    std::string runtime_directory = paths::kSharesRuntime; // records
    std::string unit_directory = paths::kRuntimeUnits;     // drop-ins

    ShareOptions default_options() const;
};

struct LoadedConfig {
    Config config;
    std::vector<ConfigWarning> warnings;
};
// $THAW_SHARESD_CONFIG names another file than the installed one (its .d folder is read as well).
Result<LoadedConfig> load_config();

// The keys of [Shares], storing into `config`, which must outlive them.
std::vector<ConfigKey> config_keys(Config& config);

} // namespace thaw::sharesd
