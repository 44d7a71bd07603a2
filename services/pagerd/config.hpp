// SPDX-License-Identifier: MIT
#pragma once

// /etc/thaw/pagerd.conf and its drop-ins, section [Pager]. Read once at start.

#include "chunk_plan.hpp"
#include "config/ini.hpp"
#include "core/names.hpp"
#include "core/text.hpp"
#include "protocol/fetch_control.hpp"
#include "protocol/session_memory.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::pagerd {

struct Config {
    std::uint64_t max_sessions = 512;
    // From the VMM's connection to its whole message.
    Microseconds handshake_timeout = 5 * kUsecPerSec;
    // Age of an unanswered fault above which a worker is replaced.
    Microseconds worker_stuck = 2 * kUsecPerSec;
    // More losses than this within the window fail the session.
    std::uint64_t worker_restart_limit = 5;
    Microseconds worker_restart_window = 30 * kUsecPerSec;
    // How long a worker that lives may take to dial in after a restart of the broker.
    Microseconds adoption_timeout = 3 * kUsecPerSec;
    // More starts than this within the interval are safe mode.
    std::uint64_t start_limit_burst = 5;
    Microseconds start_limit_interval = 10 * kUsecPerSec;
    // FileDescriptorStoreMax= of the unit: PID 1 drops what is above without a word.
    std::uint64_t store_capacity = 4096;
    // Pages ahead of the guest, where a session does not say otherwise.
    protocol::PrefetchPolicy prefetch{
        .enabled = false,
        .rate = 0,
        .replay_budget = 0,
        .sequential_budget = 0,
        .memory_pressure = 1000,
        .io_pressure = 5000,
    };
    // Chunks of remote images. Memory: an eighth of the host's, unless it is set.
    CacheBudget cache{
        .backing = CacheBacking::Auto,
        .memory = 0,
        .disk = std::uint64_t{16} << 30,
    };
    std::uint64_t cache_keep_free = std::uint64_t{1} << 30;
    Microseconds cache_idle = 600 * kUsecPerSec;
    std::string cache_directory; // empty: no tier on disk
    std::string fetch_socket = protocol::kFetchSocket;
    std::string worker_program; // absolute path
    std::string runtime_directory = paths::kPagerRuntime;
    // Unit that workers are moved to; empty: they stay.
    std::string workers_unit = kWorkersUnit;

    std::string control_path() const { return runtime_directory + "/control"; }
};

struct LoadedConfig {
    Config config;
    std::vector<ConfigWarning> warnings;
};
// $THAW_PAGERD_CONFIG names another file than the installed one (its .conf.d is read as well).
Result<LoadedConfig> load_config();

// The keys of [Pager], storing into `config`, which must outlive them.
std::vector<ConfigKey> config_keys(Config& config);

} // namespace thaw::pagerd
