// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>

#include <array>
#include <atomic>
#include <cstdint>

namespace thaw::standin {

/// Histogram of durations with eight steps per power of two (error at most 12.5 %). One thread
/// records; any thread may read while it does.
class Latency {
public:
    void record(std::uint64_t nanoseconds);
    void add(const Latency& other);
    void clear();

    std::uint64_t count() const { return count_.load(std::memory_order_relaxed); }
    std::uint64_t max() const { return max_.load(std::memory_order_relaxed); }
    /// Upper bound of the bucket that holds the given share (0..1) of all records.
    std::uint64_t quantile(double share) const;
    /// count, p50, p90, p99, p999, max (ns) and the non-empty buckets as [upper bound, count].
    nlohmann::json to_json() const;

private:
    static constexpr std::size_t buckets = 512; // 64 powers of eight steps
    static std::size_t bucket_of(std::uint64_t value);
    static std::uint64_t upper_bound(std::size_t bucket);

    std::array<std::atomic<std::uint64_t>, buckets> counts_{};
    std::atomic<std::uint64_t> count_{0};
    std::atomic<std::uint64_t> max_{0};
};

} // namespace thaw::standin
