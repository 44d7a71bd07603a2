// SPDX-License-Identifier: MIT
#include "metrics/openmetrics.hpp"

#include <gtest/gtest.h>

#include <array>

namespace thaw::metrics {
namespace {

TEST(OpenMetrics, CounterAsTheFormatWantsIt) {
    Family family("thaw_read_bytes", Type::Counter, "bytes", "Read \\ so \"far\".");
    family.add({{"vm", "a\"b\\c\nd"}, {"image", "base"}}, std::uint64_t{7});
    EXPECT_EQ(
        family.format(), "# TYPE thaw_read_bytes counter\n# UNIT thaw_read_bytes bytes\n"
                         "# HELP thaw_read_bytes Read \\\\ so \\\"far\\\".\n"
                         "thaw_read_bytes_total{vm=\"a\\\"b\\\\c\\nd\",image=\"base\"} 7\n"
    );
}

TEST(OpenMetrics, LargeNumbersKeepEveryDigit) {
    Family family("x", Type::Gauge, "", "X.");
    family.add({}, std::uint64_t{18446744073709551615ULL});
    EXPECT_NE(family.format().find("\nx 18446744073709551615\n"), std::string::npos);
}

TEST(OpenMetrics, HistogramIsCumulative) {
    Family family("x_seconds", Type::Histogram, "seconds", "X.");
    const std::array bounds{0.001, 0.5};
    const std::array<std::uint64_t, 3> counts{2, 3, 4};
    family.add_histogram({{"vm", "a"}}, bounds, counts, 1.25);
    EXPECT_EQ(
        family.format(), "# TYPE x_seconds histogram\n# UNIT x_seconds seconds\n"
                         "# HELP x_seconds X.\n"
                         "x_seconds_bucket{vm=\"a\",le=\"0.001\"} 2\n"
                         "x_seconds_bucket{vm=\"a\",le=\"0.5\"} 5\n"
                         "x_seconds_bucket{vm=\"a\",le=\"+Inf\"} 9\n"
                         "x_seconds_count{vm=\"a\"} 9\n"
                         "x_seconds_sum{vm=\"a\"} 1.25\n"
    );
}

TEST(OpenMetrics, ClosesTheText) {
    EXPECT_EQ(exposition({}), "# EOF\n");
}

} // namespace
} // namespace thaw::metrics
