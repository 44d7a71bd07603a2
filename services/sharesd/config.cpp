// SPDX-License-Identifier: MIT
#include "config.hpp"

#include <cstdlib>

namespace thaw::sharesd {

namespace {

constexpr std::uint64_t kMostShares = 100000;
constexpr std::uint64_t kMostRestarts = 1000;
constexpr std::uint64_t kLowestLimit = 64;
constexpr std::uint64_t kHighestLimit = 1 << 30;

std::function<Result<>(std::string_view)> absolute_path(std::string* target) {
    return [target](std::string_view value) -> Result<> {
        if (!value.starts_with('/')) return fail(EINVAL, "expected an absolute path");
        *target = value;
        return {};
    };
}

std::function<Result<>(std::string_view)> positive_timespan(Microseconds* target) {
    return [target](std::string_view value) -> Result<> {
        THAW_TRY(const auto parsed, parse_timespan(value));
        if (parsed == 0) return fail(EINVAL, "expected a time above 0");
        *target = parsed;
        return {};
    };
}

// A list of paths; a relative one would allow nothing and look as if it did.
std::function<Result<>(std::string_view)> absolute_paths(std::vector<std::string>* target) {
    return [target](std::string_view value) -> Result<> {
        const auto words = split_words(value);
        for (const auto& word : words)
            if (!word.starts_with('/')) return fail(EINVAL, "\"{}\" is no absolute path", word);
        if (words.empty()) target->clear();
        target->insert(target->end(), words.begin(), words.end());
        return {};
    };
}

template <class E, std::size_t N>
std::function<Result<>(std::string_view)> word(const EnumTable<E, N>& names, E* target) {
    return [&names, target](std::string_view value) -> Result<> {
        const auto parsed = names.value(value);
        if (!parsed) return fail(EINVAL, "unknown word \"{}\"", value);
        *target = *parsed;
        return {};
    };
}

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

ConfigLocation location() {
    const char* file = std::getenv("THAW_SHARESD_CONFIG");
    if (!file || *file == '\0') return ConfigLocation::of_daemon("sharesd");
    return {file, {std::string(file) + ".d"}};
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
        {section, "AllowedSources", absolute_paths(&config.allowed_sources)},
        {section, "MaxShares", config_unsigned(&config.max_shares, 1, kMostShares)},
        {section, "VirtiofsdPath", absolute_paths(&config.programs)},
        {section, "LimitNOFILE", config_unsigned(&config.limit_nofile, kLowestLimit, kHighestLimit)
        },
        {section, "OnLowLimit", word(kOnLowLimitNames, &config.on_low_limit)},
        {section, "InodeFileHandles", word(kHandleModeNames, &config.handles)},
        {section, "MemoryHigh", memory_bound(&config.memory_high)},
        {section, "ChurningCaches", config_words(&config.churning_caches)},
        {section, "ChurnReadWrite", word(kChurnPolicyNames, &config.churn_read_write)},
        {section, "ChurnReadOnly", word(kChurnPolicyNames, &config.churn_read_only)},
        {section, "RestartLimit", config_unsigned(&config.restart_limit, 0, kMostRestarts)},
        {section, "RestartIntervalSec", positive_timespan(&config.restart_interval)},
        {section, "RestartDelaySec", positive_timespan(&config.restart_delay)},
        {section, "RestartMaxDelaySec", positive_timespan(&config.longest_restart_delay)},
        {section, "DropCachesUnit", template_unit(&config.drop_caches_unit)},
        {section, "DropCachesIntervalSec", positive_timespan(&config.drop_caches_interval)},
        {section, "SettleSec", positive_timespan(&config.settle)},
        {section, "StartTimeoutSec", positive_timespan(&config.start_timeout)},
        {section, "RuntimeDirectory", absolute_path(&config.runtime_directory)},
        {section, "UnitDirectory", absolute_path(&config.unit_directory)},
    };
}

Result<LoadedConfig> load_config() {
    LoadedConfig loaded;
    THAW_TRY(loaded.warnings, read_config(location(), config_keys(loaded.config)));
    if (loaded.config.programs.empty()) loaded.config.programs = usual_programs();
    return loaded;
}

} // namespace thaw::sharesd
