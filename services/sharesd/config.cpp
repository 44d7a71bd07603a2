// SPDX-License-Identifier: MIT
#include "config.hpp"

namespace thaw::sharesd {

namespace {

constexpr std::uint64_t kMostShares = 100000;
constexpr std::uint64_t kMostRestarts = 1000;
constexpr std::uint64_t kLowestLimit = 64;
constexpr std::uint64_t kHighestLimit = 1 << 30;

std::function<Result<>(std::string_view)> memory_bound(std::uint64_t* target) {
    return [target](std::string_view value) -> Result<> {
        if (value == "infinity") {
            *target = kInfinity;
            return {};
        }
        THAW_TRY(*target, parse_size(value));
        return {};
    };
}

std::function<Result<>(std::string_view)> template_unit(std::string* target) {
    return [target](std::string_view value) -> Result<> {
        if (!value.empty() && (!is_valid_unit(value) || !value.contains("@.")))
            return fail(EINVAL, "expected a template, like drop-caches@.service");
        *target = value;
        return {};
    };
}

const std::vector<std::string>& usual_programs() {
    static const std::vector<std::string> programs{
        "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/bin/virtiofsd",
        "/usr/lib/qemu/virtiofsd"
    };
    return programs;
}

} // namespace

ShareOptions Config::default_options() const {
    ShareOptions options;
    options.limit = limit_nofile;
    options.on_low_limit = on_low_limit;
    options.handles = handles;
    options.memory_high = memory_high;
    return options;
}

std::vector<ConfigKey> config_keys(Config& config) {
    const std::string section = "Shares";
    return {
        {section, "AllowedSources", config_absolute_paths(&config.allowed_sources)},
        {section, "MaxShares", config_unsigned(&config.max_shares, 1, kMostShares)},
        {section, "VirtiofsdPath", config_absolute_paths(&config.programs)},
        {section, "LimitNOFILE", config_unsigned(&config.limit_nofile, kLowestLimit, kHighestLimit)
        },
        {section, "OnLowLimit", config_word(kOnLowLimitNames, &config.on_low_limit)},
        {section, "InodeFileHandles", config_word(kHandleModeNames, &config.handles)},
        {section, "MemoryHigh", memory_bound(&config.memory_high)},
        {section, "ChurningCaches", config_words(&config.churning_caches)},
        {section, "ChurnReadWrite", config_word(kChurnPolicyNames, &config.churn_read_write)},
        {section, "ChurnReadOnly", config_word(kChurnPolicyNames, &config.churn_read_only)},
        {section, "RestartLimit", config_unsigned(&config.restart_limit, 0, kMostRestarts)},
        {section, "RestartIntervalSec", config_positive_timespan(&config.restart_interval)},
        {section, "RestartDelaySec", config_positive_timespan(&config.restart_delay)},
        {section, "RestartMaxDelaySec", config_positive_timespan(&config.longest_restart_delay)},
        {section, "DropCachesUnit", template_unit(&config.drop_caches_unit)},
        {section, "DropCachesIntervalSec", config_positive_timespan(&config.drop_caches_interval)},
        {section, "SettleSec", config_positive_timespan(&config.settle)},
        {section, "StartTimeoutSec", config_positive_timespan(&config.start_timeout)},
        {section, "RuntimeDirectory", config_absolute_path(&config.runtime_directory)},
        {section, "UnitDirectory", config_absolute_path(&config.unit_directory)},
    };
}

Result<LoadedConfig> load_config() {
    LoadedConfig loaded;
    THAW_TRY(
        loaded.warnings,
        read_config(ConfigLocation::of_daemon("sharesd"), config_keys(loaded.config))
    );
    if (loaded.config.programs.empty()) loaded.config.programs = usual_programs();
    return loaded;
}

} // namespace thaw::sharesd
