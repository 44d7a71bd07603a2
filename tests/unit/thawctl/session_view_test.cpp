// SPDX-License-Identifier: MIT

#include "session_view.hpp"

#include <gtest/gtest.h>

namespace thaw::ctl {
namespace {

std::string lines_of(std::map<std::string, nlohmann::json> values) {
    Fields fields;
    add_session(fields, Properties{std::move(values)});
    return fields.text();
}

TEST(SessionView, EachCounterHasItsPlace) {
    const auto text = lines_of({
        {"State", "serving"},
        {"WorkerPID", 7U},
        {"WorkerRestarts", 1U},
        {"VmmPID", 8U},
        {"Engine", "io_uring"},
        {"MemorySize", std::uint64_t{1} << 30},
        {"PagesInstalled", 65536U},
        {"BytesDemand", 64U << 20},
        {"BytesReplay", 192U << 20},
        {"BytesZero", 8192U},
        {"Faults", 100U},
        {"FaultLatency", nlohmann::json::array({0U, 0U, 0U, 60U, 39U, 1U})},
        {"FaultLatencySumUSec", 700U},
        {"ReplayState", "stopped"},
        {"ReplayReason", "budget"},
        {"ReplayDone", 192U << 20},
        {"ReplayTotal", 256U << 20},
        {"ReplayPages", 49152U},
        {"ReplayUsedPages", 2U},
        {"ReplayWastedPages", 1U},
        {"CheckedPages", 16384U},
        {"PresentAlready", 5U},
        {"Again", 6U},
        {"HandshakeUSec", 12'000U},
        {"FirstFaultUSec", 15'000U},
    });
    const auto has = [&](const char* part) { return text.find(part) != std::string::npos; };
    EXPECT_TRUE(has("PID 7 (1 restarts), VMM PID 8, io_uring")) << text;
    EXPECT_TRUE(has("1.0G, 256.0M loaded (25.0%)")) << text;
    EXPECT_TRUE(has("Loaded: 64.0M on demand, 192.0M ahead, 8.0K zeros\n")) << text;
    EXPECT_TRUE(has("100 served")) << text;
    EXPECT_TRUE(has("mean 7us, p50 < 8us, p99 < 16us")) << text;
    EXPECT_TRUE(has("stopped (budget), 192.0M of 256.0M; 192.0M loaded, 8.0K asked for meanwhile, "
                    "0B too late, 4.0K given back")
    ) << text;
    EXPECT_TRUE(has("Checked: 16384 pages\n")) << text;
    EXPECT_TRUE(has("Met: 5 present already, 6 to repeat\n")) << text;
    EXPECT_TRUE(has("Times: handshake after 12ms, first fault after 15ms\n")) << text;
}

TEST(SessionView, WhatDoesNotApplyIsLeftOut) {
    const auto text = lines_of({{"State", "listening"}, {"ReplayState", "none"}});
    for (const char* label : {"Latency:", "Replay:", "Loaded:", "Checked:", "Met:", "Times:"})
        EXPECT_EQ(text.find(label), std::string::npos) << text;
}

} // namespace
} // namespace thaw::ctl
