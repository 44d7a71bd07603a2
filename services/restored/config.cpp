// SPDX-License-Identifier: MIT
#include "config.hpp"

namespace thaw::restore {

namespace {

constexpr std::uint64_t kMostJobs = 4096;

} // namespace

Result<Backend> parse_backend(std::string_view word) {
    if (const auto backend = kBackendNames.value(word)) return *backend;
    return fail(EINVAL, "\"{}\" is no memory backend: auto, uffd or file", word);
}

std::vector<ConfigKey> config_keys(Config* config) {
    const auto backend = [config](std::string_view value) -> Result<> {
        THAW_TRY(config->memory_backend, parse_backend(value));
        return {};
    };
    return {
        {"Restore", "MemoryBackend", backend},
        {"Restore", "Prefetch", config_bool(&config->prefetch)},
        {"Restore", "Recording", config_bool(&config->recording)},
        {"Restore", "LoadTimeoutSec", config_positive_timespan(&config->load_timeout)},
        {"Restore", "RecordMaxSec", config_positive_timespan(&config->record_max)},
        {"Limits", "MaxJobs", config_unsigned(&config->max_jobs, 1, kMostJobs)},
        {"Limits", "MaxParallel", config_unsigned(&config->max_parallel, 1, kMostJobs)},
        {"Limits", "KeepFree", config_size(&config->keep_free)},
        {"Limits", "LeaseSize", config_size(&config->lease_size)},
        // Not in the sample: no VMM of today is one, and a host that names one gets VMs without the
        // file systems they were promised.
        {"Testing", "VirtioFsVmms", config_words(&config->virtio_fs_vmms)},
    };
}

Result<Config> read_restored_config(std::vector<ConfigWarning>* warnings) {
    Config config;
    THAW_TRY(*warnings, read_config(ConfigLocation::of_daemon("restored"), config_keys(&config)));
    return config;
}

} // namespace thaw::restore
