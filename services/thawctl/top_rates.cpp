// SPDX-License-Identifier: MIT

#include "top_rates.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace thaw::ctl {

std::optional<std::uint64_t> percentile(const std::vector<std::uint64_t>& counts, double share) {
    const auto total = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
    if (total == 0) return std::nullopt;
    const auto wanted = std::max<std::uint64_t>(
        1, static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(total)))
    );
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        seen += counts[i];
        if (seen >= wanted) {
            const auto bound = std::min(i, counts.size() - 2);
            return std::uint64_t{1} << bound;
        }
    }
    return std::nullopt;
}

SessionRates
rates_between(const SessionSample& before, const SessionSample& after, Microseconds elapsed) {
    SessionRates rates;
    const auto zero = SessionSample{};
    const auto& from = before.id == after.id ? before : zero;
    const auto rate = [&](std::uint64_t then, std::uint64_t now) {
        if (elapsed == 0 || now < then) return 0.0;
        return static_cast<double>(now - then) * kUsecPerSec / static_cast<double>(elapsed);
    };
    rates.faults = rate(from.faults, after.faults);
    rates.demand = rate(from.demand, after.demand);
    rates.replay = rate(from.replay, after.replay);
    rates.read = rate(from.read, after.read);
    auto counts = after.latency;
    for (std::size_t i = 0; i < counts.size() && i < from.latency.size(); ++i)
        counts[i] -= std::min(counts[i], from.latency[i]);
    if (counts.size() < 2) return rates;
    rates.p50 = percentile(counts, 0.5);
    rates.p99 = percentile(counts, 0.99);
    return rates;
}

} // namespace thaw::ctl
