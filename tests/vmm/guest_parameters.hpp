// SPDX-License-Identifier: MIT
#pragma once

#include "result.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::standin {

/// What the guest does once it runs. See README.md for the keys.
struct GuestParameters {
    enum class Pattern {
        none,
        sequential,
        random,
        working_set,
    };
    struct TraceStep {
        char op; ///< r, w or d (give back)
        std::uint64_t page;
        std::uint64_t count;
    };

    Pattern pattern = Pattern::none;
    unsigned vcpus = 0; ///< 0: as many as the snapshot has
    unsigned working_set_percent = 10;
    unsigned write_percent = 30;
    std::uint64_t touches = 0;         ///< per vCPU; 0 = until stopped
    std::uint64_t rate_per_second = 0; ///< of the whole VM; 0 = as fast as it goes
    std::uint64_t drop_every = 0;      ///< one give-back per so many touches; 0 = never
    std::uint64_t drop_pages = 64;     ///< longest give-back, in small pages
    std::uint64_t seed = 1;
    bool check = true;       ///< compare the whole page at each touch
    std::string kvm = "off"; ///< off, auto, require
    std::uint64_t kvm_batch_pages = 64;
    std::vector<TraceStep> trace; ///< replayed instead of a pattern
    bool trace_repeat = false;
};

/// Fills `parameters` from the object; keys that are absent keep their value, unknown keys are an
/// error.
Result<void> update_parameters(GuestParameters& parameters, const nlohmann::json& object);

} // namespace thaw::standin
