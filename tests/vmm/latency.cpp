// SPDX-License-Identifier: MIT
#include "latency.hpp"

#include <algorithm>
#include <bit>

namespace thaw::standin {

std::size_t Latency::bucket_of(std::uint64_t value) {
    if (value < 8) {
        return value;
    }
    const int top = std::bit_width(value) - 1;
    return static_cast<std::size_t>(top - 2) * 8 + ((value >> (top - 3)) & 7);
}

std::uint64_t Latency::upper_bound(std::size_t bucket) {
    if (bucket < 8) {
        return bucket;
    }
    const std::size_t shift = bucket / 8 - 1;
    return ((8 + bucket % 8 + 1) << shift) - 1;
}

void Latency::record(std::uint64_t nanoseconds) {
    counts_[bucket_of(nanoseconds)].fetch_add(1, std::memory_order_relaxed);
    count_.fetch_add(1, std::memory_order_relaxed);
    if (nanoseconds > max()) {
        max_.store(nanoseconds, std::memory_order_relaxed);
    }
}

void Latency::add(const Latency& other) {
    for (std::size_t i = 0; i < buckets; ++i) {
        counts_[i].fetch_add(
            other.counts_[i].load(std::memory_order_relaxed), std::memory_order_relaxed
        );
    }
    count_.fetch_add(other.count(), std::memory_order_relaxed);
    max_.store(std::max(max(), other.max()), std::memory_order_relaxed);
}

void Latency::clear() {
    for (auto& count : counts_) {
        count.store(0, std::memory_order_relaxed);
    }
    count_.store(0, std::memory_order_relaxed);
    max_.store(0, std::memory_order_relaxed);
}

std::uint64_t Latency::quantile(double share) const {
    const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(count()));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets; ++i) {
        seen += counts_[i].load(std::memory_order_relaxed);
        if (seen > wanted) {
            return std::min(upper_bound(i), max());
        }
    }
    return max();
}

nlohmann::json Latency::to_json() const {
    nlohmann::json histogram = nlohmann::json::array();
    for (std::size_t i = 0; i < buckets; ++i) {
        const std::uint64_t count = counts_[i].load(std::memory_order_relaxed);
        if (count != 0) {
            histogram.push_back({upper_bound(i), count});
        }
    }
    return {
        {"count", count()},
        {"p50", quantile(0.5)},
        {"p90", quantile(0.9)},
        {"p99", quantile(0.99)},
        {"p999", quantile(0.999)},
        {"max", max()},
        {"histogram", std::move(histogram)}
    };
}

} // namespace thaw::standin
