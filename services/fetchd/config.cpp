// SPDX-License-Identifier: MIT
#include "config.hpp"

#include <cstdlib>

namespace thaw::fetchd {

namespace {
constexpr std::uint64_t kMostTries = 100;
constexpr std::uint64_t kMostTransfers = 256;
} // namespace

std::vector<ConfigKey> config_keys(Config& config) {
    const std::string section = "Fetch";
    return {
        {section, "ConnectTimeoutSec", config_positive_timespan(&config.connect_timeout)},
        {section, "StallTimeoutSec", config_positive_timespan(&config.stall_timeout)},
        {section, "TimeoutSec", config_positive_timespan(&config.total_timeout)},
        {section, "Tries", config_unsigned(&config.most_tries, 1, kMostTries)},
        {section, "RetryDelaySec", config_positive_timespan(&config.backoff)},
        {section, "RetryDelayMaxSec", config_positive_timespan(&config.backoff_max)},
        {section, "MaxTransfers", config_unsigned(&config.most_transfers, 1, kMostTransfers)},
        {section, "IdleExitSec", config_positive_timespan(&config.idle_exit)},
        {section, "Proxy", config_string(&config.proxy)},
    };
}

Result<LoadedConfig> load_config() {
    LoadedConfig loaded;
    THAW_TRY(
        loaded.warnings,
        read_config(ConfigLocation::of_daemon("fetchd"), config_keys(loaded.config))
    );
    if (const char* folder = std::getenv("CREDENTIALS_DIRECTORY"); folder != nullptr)
        loaded.config.credentials = folder;
    return loaded;
}

} // namespace thaw::fetchd
