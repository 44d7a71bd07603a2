// SPDX-License-Identifier: MIT
#include "config.hpp"

#include "build_config.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace thaw::pagerd {

namespace {

constexpr std::uint64_t kMostSessions = 100000;
constexpr std::uint64_t kMostRestarts = 1000;
constexpr std::uint64_t kPercent = 100;
constexpr std::uint64_t kStoreFloor = 16;
constexpr std::uint64_t kStoreCeiling = 1000000;

// Percent of the time that something waits, as the kernel's pressure files have it; 0: not looked
// at.
std::function<Result<>(std::string_view)> pressure(std::uint32_t* target) {
    return [target](std::string_view value) -> Result<> {
        if (value.ends_with('%')) value.remove_suffix(1);
        THAW_TRY(const auto parsed, parse_unsigned(value, kPercent));
        *target = static_cast<std::uint32_t>(parsed * kPercent);
        return {};
    };
}

std::uint64_t an_eighth_of_memory() {
    const auto pages = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PHYS_PAGES), 1L));
    const auto size = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return pages * size / 8;
}

} // namespace

std::vector<ConfigKey> config_keys(Config& config) {
    const std::string section = "Pager";
    return {
        {section, "MaxSessions", config_unsigned(&config.max_sessions, 1, kMostSessions)},
        {section, "HandshakeTimeoutSec", config_positive_timespan(&config.handshake_timeout)},
        {section, "WorkerStuckSec", config_positive_timespan(&config.worker_stuck)},
        {section, "WorkerRestartLimit",
         config_unsigned(&config.worker_restart_limit, 0, kMostRestarts)},
        {section, "WorkerRestartIntervalSec",
         config_positive_timespan(&config.worker_restart_window)},
        {section, "AdoptionTimeoutSec", config_positive_timespan(&config.adoption_timeout)},
        {section, "StartLimitBurst", config_unsigned(&config.start_limit_burst, 1, kMostRestarts)},
        {section, "StartLimitIntervalSec", config_positive_timespan(&config.start_limit_interval)},
        {section, "FileDescriptorStoreMax",
         config_unsigned(&config.store_capacity, kStoreFloor, kStoreCeiling)},
        {section, "PrefetchRate", config_size(&config.prefetch.rate)},
        {section, "ReplayBudget", config_size(&config.prefetch.replay_budget)},
        {section, "SequentialBudget", config_size(&config.prefetch.sequential_budget)},
        {section, "MemoryPressureLimit", pressure(&config.prefetch.memory_pressure)},
        {section, "IOPressureLimit", pressure(&config.prefetch.io_pressure)},
        {section, "CacheBacking", config_word(kCacheBackings, &config.cache.backing)},
        {section, "CacheMemoryMax", config_size(&config.cache.memory)},
        {section, "CacheDiskMax", config_size(&config.cache.disk)},
        {section, "CacheKeepFree", config_size(&config.cache_keep_free)},
        {section, "CacheIdleSec", config_positive_timespan(&config.cache_idle)},
        {section, "CacheDirectory", config_absolute_path(&config.cache_directory)},
        {section, "FetchSocket", config_absolute_path(&config.fetch_socket)},
        {section, "WorkerProgram", config_absolute_path(&config.worker_program)},
        {section, "RuntimeDirectory", config_absolute_path(&config.runtime_directory)},
        {section, "WorkersUnit", config_string(&config.workers_unit)},
    };
}

Result<LoadedConfig> load_config() {
    LoadedConfig loaded;
    // Made by CacheDirectory= of the unit.
    if (const char* directory = std::getenv("CACHE_DIRECTORY"); directory != nullptr)
        loaded.config.cache_directory = directory;
    loaded.config.worker_program = THAW_LIBEXECDIR "/thaw-pager-worker";
    THAW_TRY(
        loaded.warnings,
        read_config(ConfigLocation::of_daemon("pagerd"), config_keys(loaded.config))
    );
    if (loaded.config.cache.memory == 0) loaded.config.cache.memory = an_eighth_of_memory();
    return loaded;
}

} // namespace thaw::pagerd
