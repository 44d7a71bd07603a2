// SPDX-License-Identifier: MIT
#include "metrics/openmetrics.hpp"

#include <fmt/format.h>

namespace thaw::metrics {

namespace {

// Backslash, quote and line feed, as the format wants them.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\n') {
            out += "\\n";
            continue;
        }
        if (c == '\\' || c == '"') out += '\\';
        out += c;
    }
    return out;
}

std::string_view type_name(Type type) {
    switch (type) {
    case Type::Counter:
        return "counter";
    case Type::Gauge:
        return "gauge";
    case Type::Histogram:
        return "histogram";
    case Type::Info:
        return "info";
    }
    return "unknown";
}

std::string_view sample_suffix(Type type) {
    if (type == Type::Counter) return "_total";
    return type == Type::Info ? "_info" : "";
}

} // namespace

void Family::add_text(std::string_view suffix, const Labels& labels, const std::string& value) {
    samples_ += name_;
    samples_ += suffix;
    if (!labels.empty()) {
        char separator = '{';
        for (const auto& [key, text] : labels) {
            samples_ += fmt::format("{}{}=\"{}\"", separator, key, escaped(text));
            separator = ',';
        }
        samples_ += '}';
    }
    samples_ += ' ';
    samples_ += value;
    samples_ += '\n';
}

void Family::add(const Labels& labels, double value) {
    add_text(sample_suffix(type_), labels, fmt::format("{}", value));
}

void Family::add(const Labels& labels, std::uint64_t value) {
    add_text(sample_suffix(type_), labels, std::to_string(value));
}

void Family::add_histogram(
    const Labels& labels, std::span<const double> bounds, std::span<const std::uint64_t> counts,
    double sum
) {
    std::uint64_t total = 0;
    auto with_bound = labels;
    with_bound.emplace_back("le", "");
    for (std::size_t i = 0; i <= bounds.size(); ++i) {
        if (i < counts.size()) total += counts[i];
        with_bound.back().second = i < bounds.size() ? fmt::format("{}", bounds[i]) : "+Inf";
        add_text("_bucket", with_bound, std::to_string(total));
    }
    add_text("_count", labels, std::to_string(total));
    add_text("_sum", labels, fmt::format("{}", sum));
}

std::string Family::format() const {
    auto text = fmt::format("# TYPE {} {}\n", name_, type_name(type_));
    if (!unit_.empty()) text += fmt::format("# UNIT {} {}\n", name_, unit_);
    text += fmt::format("# HELP {} {}\n", name_, escaped(help_));
    return text + samples_;
}

std::string exposition(const std::vector<Family>& families) {
    std::string text;
    for (const auto& family : families)
        text += family.format();
    return text + "# EOF\n";
}

} // namespace thaw::metrics
