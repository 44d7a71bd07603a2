// SPDX-License-Identifier: MIT
#include "metrics/dirty_throttle.hpp"

#include <gtest/gtest.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

namespace thaw::metrics {
namespace {

constexpr Microseconds kSoon = 5 * kUsecPerMsec;

void run_for(EventLoop& loop, Microseconds time) {
    for (const auto end = now_monotonic() + time; now_monotonic() < end;)
        ASSERT_TRUE(loop.run_once(kUsecPerMsec));
}

TEST(DirtyThrottle, LooksOnlyWhileSomebodyWrites) {
    auto loop = EventLoop::create().value();
    const auto throttle = DirtyThrottle::create(loop, kSoon).value();
    if (!throttle->counters().known) GTEST_SKIP() << "this kernel does not say where threads sleep";
    EXPECT_EQ(throttle->state(), "idle");
    run_for(loop, 50 * kUsecPerMsec);
    EXPECT_EQ(throttle->counters().looks, 0U);
    {
        const auto first = throttle->begin("one file");
        auto second = throttle->begin("another");
        EXPECT_EQ(throttle->state(), "writing");
        second = {};
        EXPECT_EQ(throttle->state(), "writing");
        run_for(loop, 100 * kUsecPerMsec);
        EXPECT_GT(throttle->counters().looks, 3U);
    }
    EXPECT_EQ(throttle->state(), "idle");
    run_for(loop, 20 * kUsecPerMsec);
    const auto looks = throttle->counters().looks;
    run_for(loop, 50 * kUsecPerMsec);
    EXPECT_EQ(throttle->counters().looks, looks);
    const auto again = throttle->begin("a third");
    run_for(loop, 50 * kUsecPerMsec);
    EXPECT_GT(throttle->counters().looks, looks);
    EXPECT_EQ(throttle->counters().throttled, 0U);
}

TEST(DirtyThrottle, AWriterMayEndAfterIt) {
    auto loop = EventLoop::create().value();
    DirtyThrottle::Writing writing;
    {
        const auto throttle = DirtyThrottle::create(loop, kSoon).value();
        writing = throttle->begin("a file");
        EXPECT_EQ(throttle->state(), throttle->counters().known ? "writing" : "unknown");
    }
    // Nothing looks any more although somebody writes, and his end finds nobody.
    EXPECT_FALSE(loop.run_once(4 * kSoon).value_or(true));
    writing = {};
    EXPECT_FALSE(loop.run_once(4 * kSoon).value_or(true));
}

// Threads that come and go, and numbers that are used again.
TEST(WchanSampler, ThreadsMayComeAndGo) {
    WchanSampler sampler;
    if (!sampler.known()) GTEST_SKIP() << "this kernel does not say where threads sleep";
    for (int round = 0; round < 20; ++round) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 20; ++i)
            threads.emplace_back([i] { usleep(static_cast<useconds_t>(i) * 100); });
        EXPECT_EQ(sampler.throttled_threads(), 0U);
        for (auto& thread : threads)
            thread.join();
        EXPECT_EQ(sampler.throttled_threads(), 0U);
    }
}

// What a look costs with many threads: the hundredth part of a second would be too much.
TEST(WchanSampler, ALookIsCheap) {
    WchanSampler sampler;
    if (!sampler.known()) GTEST_SKIP() << "this kernel does not say where threads sleep";
    const int bell = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    std::vector<std::thread> threads;
    for (int i = 0; i < 300; ++i)
        threads.emplace_back([bell] {
            eventfd_t value = 0;
            eventfd_read(bell, &value);
        });
    sampler.throttled_threads();
    Microseconds best = kInfinity;
    for (int round = 0; round < 10; ++round) {
        const auto begin = now_monotonic();
        sampler.throttled_threads();
        best = std::min(best, now_monotonic() - begin);
    }
    RecordProperty("look_usec", static_cast<int>(best));
    EXPECT_LT(best, 20 * kUsecPerMsec);
    eventfd_write(bell, threads.size());
    for (auto& thread : threads)
        thread.join();
    close(bell);
}

} // namespace
} // namespace thaw::metrics
