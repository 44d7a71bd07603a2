// SPDX-License-Identifier: MIT
#include "config.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace thaw::diskguard {

namespace {

constexpr std::uint64_t kWholePermyriad = 10000;
constexpr std::uint64_t kMostLeases = 65536;
constexpr std::uint64_t kMostPercent = 1000;
constexpr std::uint64_t kMostFactor = 1000;

using Parse = std::function<Result<>(std::string_view)>;

Parse absolute_paths(std::vector<std::string>* target) {
    // The first assignment replaces the default, further ones add to it.
    return [target, first = true](std::string_view value) mutable -> Result<> {
        if (trim(value).empty()) {
            target->clear();
            first = false;
            return {};
        }
        auto words = split_words(value);
        for (const auto& word : words)
            if (!word.starts_with('/')) return fail(EINVAL, "expected absolute paths");
        if (std::exchange(first, false)) target->clear();
        for (auto& word : words)
            target->push_back(std::move(word));
        return {};
    };
}

// Keeps what RootWriters= said.
Parse reserve_size(reserve::SizeSetting* target) {
    return [target](std::string_view value) -> Result<> {
        THAW_TRY(auto setting, reserve::parse_size_setting(value));
        setting.root_writers = target->root_writers;
        *target = setting;
        return {};
    };
}

Parse percent(std::uint64_t* target) {
    return [target](std::string_view value) -> Result<> {
        THAW_TRY(*target, parse_permyriad(value));
        return {};
    };
}

// A worse level that begins above a better one would hide it.
bool order(Threshold& worse, const Threshold& better) {
    const auto before = worse;
    worse.amount = std::min(worse.amount, better.amount);
    worse.permyriad = std::min(worse.permyriad, better.permyriad);
    return worse == before;
}

} // namespace

Result<std::uint64_t> parse_permyriad(std::string_view text) {
    auto digits = trim(text);
    if (!digits.ends_with('%')) return fail(EINVAL, "expected a percentage such as 5%");
    digits.remove_suffix(1);
    const auto dot = digits.find('.');
    const auto fraction = dot == std::string_view::npos ? "" : digits.substr(dot + 1);
    if (dot != std::string_view::npos && (fraction.empty() || fraction.size() > 2))
        return fail(EINVAL, "expected at most two digits after the point");
    THAW_TRY(const auto whole, parse_unsigned(digits.substr(0, dot), 100));
    std::uint64_t parts = 0;
    if (!fraction.empty()) {
        THAW_TRY(parts, parse_unsigned(fraction, 99));
        if (fraction.size() == 1) parts *= 10;
    }
    const auto permyriad = whole * 100 + parts;
    if (permyriad > kWholePermyriad) return fail(EINVAL, "expected at most 100%");
    return permyriad;
}

std::vector<ConfigKey> config_keys(Config& config) {
    const std::string guard = "Guard", levels = "Levels", policy = "Policy";
    return {
        {guard, "Paths", absolute_paths(&config.paths)},
        {guard, "ReserveSize", reserve_size(&config.reserve)},
        {guard, "RootWriters", config_bool(&config.reserve.root_writers)},
        {guard, "RearmFactor", config_unsigned(&config.rearm.factor, 1, kMostFactor)},
        {guard, "RearmSettleSec", config_timespan(&config.rearm.dwell)},
        {guard, "MaxLeases", config_unsigned(&config.max_leases, 1, kMostLeases)},
        {guard, "PollFastestSec", config_positive_timespan(&config.poll.fastest)},
        {guard, "PollIdleSec", config_positive_timespan(&config.poll.idle)},
        {guard, "PollSlowestSec", config_positive_timespan(&config.poll.slowest)},
        {guard, "Pressure", config_bool(&config.pressure)},
        {levels, "LowBytes", config_size(&config.bytes.low.amount)},
        {levels, "LowPercent", percent(&config.bytes.low.permyriad)},
        {levels, "CriticalBytes", config_size(&config.bytes.critical.amount)},
        {levels, "CriticalPercent", percent(&config.bytes.critical.permyriad)},
        {levels, "FullBytes", config_size(&config.bytes.full.amount)},
        {levels, "FullPercent", percent(&config.bytes.full.permyriad)},
        {levels, "LowInodes", config_unsigned(&config.inodes.low.amount, 0, UINT64_MAX)},
        {levels, "LowInodesPercent", percent(&config.inodes.low.permyriad)},
        {levels, "CriticalInodes", config_unsigned(&config.inodes.critical.amount, 0, UINT64_MAX)},
        {levels, "CriticalInodesPercent", percent(&config.inodes.critical.permyriad)},
        {levels, "FullInodes", config_unsigned(&config.inodes.full.amount, 0, UINT64_MAX)},
        {levels, "FullInodesPercent", percent(&config.inodes.full.permyriad)},
        {levels, "MarginPercent", config_unsigned(&config.margin_percent, 0, kMostPercent)},
        {levels, "SettleSec", config_timespan(&config.settle)},
        {policy, "Release", config_word(kReleasePolicyNames, &config.release)},
        {policy, "ReleaseCooldownSec", config_timespan(&config.release_cooldown)},
        {policy, "Writers", config_word(diskguard1::kWritersNames, &config.writers)},
    };
}

std::vector<ConfigWarning> reconcile(Config& config) {
    std::vector<ConfigWarning> warnings;
    const auto warn = [&](std::string text) {
        warnings.push_back({"diskguardd.conf", 0, std::move(text)});
    };
    for (auto* thresholds : {&config.bytes, &config.inodes}) {
        const bool critical = order(thresholds->critical, thresholds->low);
        const bool full = order(thresholds->full, thresholds->critical);
        if (!critical || !full)
            warn("a worse level must not begin above a better one: lowered to the better one's");
    }
    if (config.release == ReleasePolicy::Auto && config.writers != diskguard1::Writers::Pause) {
        config.release = ReleasePolicy::Manual;
        warn("Release=auto needs Writers=pause, or the writers would only fill what is released: "
             "Release=manual is used");
    }
    config.poll.idle = std::max(config.poll.idle, config.poll.fastest);
    config.poll.slowest = std::max(config.poll.slowest, config.poll.idle);
    return warnings;
}

Result<LoadedConfig> load_config() {
    LoadedConfig loaded;
    THAW_TRY(
        loaded.warnings,
        read_config(ConfigLocation::of_daemon("diskguardd"), config_keys(loaded.config))
    );
    for (auto& warning : reconcile(loaded.config))
        loaded.warnings.push_back(std::move(warning));
    return loaded;
}

} // namespace thaw::diskguard
