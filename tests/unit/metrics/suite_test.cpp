// SPDX-License-Identifier: MIT
#include "metrics/suite.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <set>
#include <sstream>

namespace thaw::metrics {
namespace {

bool has(const std::string& text, const std::string& line) {
    return text.find("\n" + line + "\n") != std::string::npos;
}

TEST(Suite, SeriesExistAtZeroWithoutAnyDaemon) {
    const auto text = suite_exposition({});
    EXPECT_TRUE(has(text, "thaw_up{daemon=\"restored\"} 0"));
    EXPECT_TRUE(has(text, "thaw_up{daemon=\"pagerd\"} 0"));
    EXPECT_TRUE(has(text, "thaw_jobs_ended_total{kind=\"restore\",result=\"failed\"} 0"));
    EXPECT_TRUE(has(text, "thaw_pager_sessions 0"));
    EXPECT_TRUE(has(text, "thaw_dirty_throttled_threads_total{daemon=\"restored\"} 0"));
    EXPECT_TRUE(has(text, "thaw_dirty_throttled_threads_total{daemon=\"pagerd\"} 0"));
    EXPECT_TRUE(has(text, "thaw_pager_workers_lost_total 0"));
    EXPECT_TRUE(has(text, "thaw_cache_fetched_bytes_total 0"));
    EXPECT_TRUE(has(text, "thaw_cache_fetch_seconds_count 0"));
    EXPECT_TRUE(has(text, "thaw_cache_store_seconds_bucket{le=\"+Inf\"} 0"));
    EXPECT_TRUE(has(text, "thaw_pager_sessions_by_state{state=\"serving\"} 0"));
    EXPECT_TRUE(text.ends_with("# EOF\n"));
}

Answers one_session() {
    Answers answers;
    answers[0].up = true;
    answers[0].manager["NInstances"] = 3U;
    answers[0].manager["JobResults"] =
        nlohmann::json::array({{"restore", "done", 5U}, {"stop", "failed", 1U}});
    answers[1].up = true;
    answers[1].manager["SafeMode"] = true;
    answers[1].manager["BytesFetched"] = 4194304U;
    answers[1].manager["FetchLatency"] = nlohmann::json::array({0U, 1U, 1U});
    answers[1].manager["FetchLatencySumUSec"] = 2000000U;
    answers[1].objects.push_back({"/org/thaw/pager1/session/web", {}});
    answers[1].objects[0].interfaces["org.thaw.pager1.Session"] = {
        {"Name", "web"},
        {"Image", "base"},
        {"State", "serving"},
        {"Faults", 12U},
        {"PagesInstalled", 3U},
        {"OldestFaultUSec", 1500000U},
        {"FaultLatency", nlohmann::json::array({1U, 2U, 0U, 4U})},
        {"FaultLatencySumUSec", 500000U},
    };
    return answers;
}

TEST(Suite, ValuesAndUnits) {
    const auto text = suite_exposition(one_session());
    EXPECT_TRUE(has(text, "thaw_instances 3"));
    EXPECT_TRUE(has(text, "thaw_jobs_ended_total{kind=\"restore\",result=\"done\"} 5"));
    EXPECT_TRUE(has(text, "thaw_jobs_ended_total{kind=\"stop\",result=\"failed\"} 1"));
    EXPECT_TRUE(has(text, "thaw_jobs_ended_total{kind=\"stop\",result=\"done\"} 0"));
    EXPECT_TRUE(has(text, "thaw_pager_safe_mode 1"));
    EXPECT_TRUE(has(text, "thaw_cache_fetched_bytes_total 4194304"));
    EXPECT_TRUE(has(text, "thaw_cache_fetch_seconds_count 2"));
    EXPECT_TRUE(has(text, "thaw_cache_fetch_seconds_sum 2"));
    EXPECT_TRUE(has(text, "thaw_session_faults_total{vm=\"web\",image=\"base\"} 12"));
    EXPECT_TRUE(has(text, "thaw_session_installed_bytes_total{vm=\"web\",image=\"base\"} 12288"));
    EXPECT_TRUE(has(text, "thaw_session_oldest_fault_seconds{vm=\"web\",image=\"base\"} 1.5"));
    EXPECT_TRUE(has(
        text, "thaw_session_fault_latency_seconds_bucket{vm=\"web\",image=\"base\",le=\"2e-06\"} 3"
    ));
    EXPECT_TRUE(has(
        text, "thaw_session_fault_latency_seconds_bucket{vm=\"web\",image=\"base\",le=\"+Inf\"} 7"
    ));
    EXPECT_TRUE(has(text, "thaw_session_fault_latency_seconds_sum{vm=\"web\",image=\"base\"} 0.5"));
    // Never sent, and there all the same.
    EXPECT_TRUE(has(text, "thaw_session_retries_total{vm=\"web\",image=\"base\"} 0"));
}

TEST(Suite, UnknownThrottlingIsNotZero) {
    Answers answers = one_session();
    answers[0].manager["DirtyThrottle"] = "writing";
    answers[0].manager["DirtyThrottled"] = 7U;
    answers[0].manager["DirtyThrottleLooks"] = 9U;
    answers[1].manager["DirtyThrottle"] = "unknown";
    answers[1].manager["DirtyThrottled"] = 0U;
    const auto text = suite_exposition(answers);
    EXPECT_TRUE(has(text, "thaw_dirty_throttle_known{daemon=\"restored\"} 1"));
    EXPECT_TRUE(has(text, "thaw_dirty_throttled_threads_total{daemon=\"restored\"} 7"));
    EXPECT_TRUE(has(text, "thaw_dirty_throttle_looks_total{daemon=\"restored\"} 9"));
    EXPECT_TRUE(has(text, "thaw_dirty_throttle_known{daemon=\"pagerd\"} 0"));
    EXPECT_EQ(
        text.find("thaw_dirty_throttled_threads_total{daemon=\"pagerd\"}"), std::string::npos
    );
}

TEST(Suite, OverlaysOfRootFileSystems) {
    EXPECT_EQ(suite_exposition({}).find("thaw_rootfs"), std::string::npos);
    std::vector<protocol::RootfsStatus> overlays;
    EXPECT_TRUE(has(suite_exposition({}, &overlays), "thaw_rootfs_overlays 0"));
    overlays.resize(2);
    overlays[0].name = "web";
    overlays[0].dirty_bytes = 4096;
    overlays[1].name = "db";
    overlays[1].failed_writes = 3;
    const auto text = suite_exposition({}, &overlays);
    EXPECT_TRUE(has(text, "thaw_rootfs_overlays 2"));
    EXPECT_TRUE(has(text, "thaw_rootfs_dirty_bytes{vm=\"web\"} 4096"));
    EXPECT_TRUE(has(text, "thaw_rootfs_dirty_bytes{vm=\"db\"} 0"));
    EXPECT_TRUE(has(text, "thaw_rootfs_failed_writes_total{vm=\"db\"} 3"));
}

TEST(Suite, EachFamilyIsDeclaredOnceAndBeforeItsSamples) {
    std::istringstream lines(suite_exposition(one_session()));
    std::set<std::string> declared;
    std::string current;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("# TYPE ")) {
            current = line.substr(7, line.find(' ', 7) - 7);
            EXPECT_TRUE(declared.insert(current).second) << current;
        } else if (!line.starts_with('#')) {
            EXPECT_TRUE(line.starts_with(current)) << line;
        }
    }
    EXPECT_GT(declared.size(), 30U);
}

TEST(Suite, ValuesOfAWrongTypeAreZero) {
    auto answers = one_session();
    auto& session = answers[1].objects[0].interfaces["org.thaw.pager1.Session"];
    session["Faults"] = "many";
    session["FaultLatency"] = nlohmann::json::array({"x", 2U});
    answers[0].manager["JobResults"] = nlohmann::json::array({{"restore"}, "x"});
    const auto text = suite_exposition(answers);
    EXPECT_TRUE(has(text, "thaw_session_faults_total{vm=\"web\",image=\"base\"} 0"));
}

} // namespace
} // namespace thaw::metrics
