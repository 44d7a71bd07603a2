// SPDX-License-Identifier: MIT
#pragma once

// What two looks at a session's counters say about the time between them. Pure.

#include "core/text.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace thaw::ctl {

struct SessionSample {
    std::string id; // a session that was made anew begins at 0 again
    std::string state;
    std::string image;
    std::uint64_t memory_size = 0;
    std::uint64_t installed = 0; // bytes
    std::uint64_t faults = 0;
    std::uint64_t demand = 0; // bytes, like the next two
    std::uint64_t replay = 0;
    std::uint64_t read = 0;
    std::uint64_t parked = 0;
    std::uint64_t oldest_usec = 0;
    std::vector<std::uint64_t> latency; // bucket i: below 2^i µs
};

struct SessionRates {
    double faults = 0; // per second, like the next three
    double demand = 0;
    double replay = 0;
    double read = 0;
    // Of the faults in between, upper bounds in µs; nothing without faults.
    std::optional<std::uint64_t> p50;
    std::optional<std::uint64_t> p99;
};

// `before` of another session (or none) counts as all zero. `elapsed` 0 gives rates of 0.
SessionRates
rates_between(const SessionSample& before, const SessionSample& after, Microseconds elapsed);

// Upper bound in µs of the bucket that holds the given share of all counts; nothing when they are
// all 0. For the last bucket, which has none, the bound before it.
std::optional<std::uint64_t> percentile(const std::vector<std::uint64_t>& counts, double share);

} // namespace thaw::ctl
