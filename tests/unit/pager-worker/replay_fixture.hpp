// SPDX-License-Identifier: MIT
#pragma once

// Pages ahead of the guest, for each engine.

#include "harness.hpp"

#include <algorithm>
#include <numeric>
#include <random>

namespace thaw::test {

inline constexpr std::uint64_t kReplaySize = 16 << 20;
inline constexpr std::uint64_t kReplayPages = kReplaySize / kPage;

// Runs of three pages out of `page_count`, in no order.
inline std::vector<std::uint32_t> scattered_runs(std::uint64_t page_count, std::uint64_t seed = 1) {
    std::vector<std::uint32_t> runs(page_count / 8);
    std::iota(runs.begin(), runs.end(), 0);
    std::shuffle(runs.begin(), runs.end(), std::mt19937_64(seed));
    std::vector<std::uint32_t> pages;
    for (const std::uint32_t run : runs)
        for (std::uint32_t i = 0; i < 3; ++i)
            pages.push_back(run * 8 + i);
    return pages;
}

inline BrokerOptions
replay_options(const char* engine, Fd working_set, std::uint32_t flags = protocol::kFlagPrefetch) {
    BrokerOptions options;
    options.engine = engine;
    options.flags = flags;
    options.working_set = std::move(working_set);
    return options;
}

inline void expect_replay_end(
    const WorkerProcess& worker, protocol::ReplayState state, protocol::ReplayReason reason
) {
    const auto message = worker.receive(protocol::ControlType::ReplayEnded);
    ASSERT_TRUE(message) << message.error().message();
    EXPECT_EQ(message->replay_ended.state, state);
    EXPECT_EQ(message->replay_ended.reason, reason);
}

class ReplayTest : public ::testing::TestWithParam<const char*> {
protected:
    static std::vector<std::uint32_t> scattered() { return scattered_runs(kReplayPages); }
    BrokerOptions options(Fd working_set, std::uint32_t flags = protocol::kFlagPrefetch) const {
        return replay_options(GetParam(), std::move(working_set), flags);
    }
    HangGuard guard_{60};
};

// How many pages of the guest are not the image's; looking at them faults them in.
inline std::uint64_t count_wrong_pages(const Guest& guest, std::uint64_t page_count) {
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 0; page < page_count; ++page)
        wrong += TestImage::matches(guest.address(page), page) ? 0 : 1;
    return wrong;
}

} // namespace thaw::test
