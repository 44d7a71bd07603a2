// SPDX-License-Identifier: MIT
#pragma once

// The measurements; each returns its part of the report. Ratios are taken within one run, ours and
// the other's in turn, and the median of the runs is reported.

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace thaw::bench {

struct Options {
    std::string folder; // for images: on a disk file system, with room for `image_mib` twice
    unsigned runs = 5;
    std::uint64_t image_mib = 2048; // replay
    std::uint64_t set_mib = 96;     // working set
    std::uint64_t hot_mib = 128;    // faults and populate
    unsigned idle_workers = 200;
    unsigned idle_seconds = 60;
    unsigned kills = 200;
};

nlohmann::json measure_faults(const Options& options);   // fault_*, faults_per_s_by_touchers
nlohmann::json measure_populate(const Options& options); // populate_*
nlohmann::json measure_replay(const Options& options);   // replay_*, file_backend_*
nlohmann::json measure_idle(const Options& options);     // idle_*, worker_*
nlohmann::json measure_blackout(const Options& options); // blackout_ms
nlohmann::json measure_fairness(const Options& options); // fairness
nlohmann::json measure_scale(const Options& options);    // scale, session_create_ms

} // namespace thaw::bench
