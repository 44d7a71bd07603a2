// SPDX-License-Identifier: MIT
#pragma once

// Builds an OpenMetrics 1.0 exposition. Pure text.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace thaw::metrics {

inline constexpr std::string_view kContentType =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

using Labels = std::vector<std::pair<std::string_view, std::string>>;

enum class Type { Counter, Gauge, Histogram, Info };

// One metric with all its samples. A counter's samples get "_total" added, an info's "_info".
class Family {
public:
    // `unit` must be the last part of `name` when it is not empty ("seconds", "bytes").
    Family(std::string name, Type type, std::string unit, std::string help)
        : name_(std::move(name)), type_(type), unit_(std::move(unit)), help_(std::move(help)) {}

    void add(const Labels& labels, double value);
    void add(const Labels& labels, std::uint64_t value);
    // `counts[i]` observations were at most `bounds[i]` (and above the bound before); one count
    // more than bounds is that of everything above. `sum` of all observations.
    void add_histogram(
        const Labels& labels, std::span<const double> bounds, std::span<const std::uint64_t> counts,
        double sum
    );
    std::string format() const;

private:
    void add_text(std::string_view suffix, const Labels& labels, const std::string& value);
    std::string name_;
    Type type_;
    std::string unit_;
    std::string help_;
    std::string samples_;
};

// All families and the closing line.
std::string exposition(const std::vector<Family>& families);

} // namespace thaw::metrics
