// SPDX-License-Identifier: MIT
#include "event/background.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <thread>

namespace thaw {
namespace {

using std::chrono::milliseconds;

TEST(Background, ResultArrivesFromTheLoopAndTheLoopTurnsMeanwhile) {
    auto loop = *EventLoop::create();
    std::optional<Result<>> result;
    std::thread::id worker;
    sigset_t mask;
    auto task = BackgroundTask::start(
        loop,
        [&](const BackgroundTask::Canceled&) -> Result<> {
            worker = std::this_thread::get_id();
            pthread_sigmask(SIG_SETMASK, nullptr, &mask);
            std::this_thread::sleep_for(milliseconds(50));
            return fail(ENOSPC, "full");
        },
        [&](Result<> done) {
            EXPECT_NE(std::this_thread::get_id(), worker);
            result = std::move(done);
        }
    );
    ASSERT_TRUE(task);
    unsigned turns = 0;
    while (!result && turns < 1000) {
        ++turns;
        ASSERT_TRUE(loop.run_once(5 * kUsecPerMsec));
    }
    ASSERT_TRUE(result);
    EXPECT_EQ(result->error().code(), ENOSPC);
    EXPECT_GT(turns, 3U);
    EXPECT_EQ(sigismember(&mask, SIGTERM), 1) << "SIGTERM is the loop's";
}

TEST(Background, DoneMayDestroyTheTask) {
    auto loop = *EventLoop::create();
    std::unique_ptr<BackgroundTask> task;
    bool done = false;
    auto started = BackgroundTask::start(
        loop, [](const BackgroundTask::Canceled&) -> Result<> { return {}; },
        [&](const Result<>&) {
            task.reset();
            done = true;
        }
    );
    ASSERT_TRUE(started);
    task = std::move(*started);
    for (int i = 0; i < 1000 && !done; ++i)
        ASSERT_TRUE(loop.run_once(5 * kUsecPerMsec));
    EXPECT_TRUE(done);
}

TEST(Background, DroppingItCancelsAndNothingIsCalled) {
    auto loop = *EventLoop::create();
    std::atomic<bool> saw_cancel{false};
    bool called = false;
    {
        auto task = BackgroundTask::start(
            loop,
            [&](const BackgroundTask::Canceled& canceled) -> Result<> {
                while (!canceled)
                    std::this_thread::sleep_for(milliseconds(1));
                saw_cancel = true;
                return {};
            },
            [&](const Result<>&) { called = true; }
        );
        ASSERT_TRUE(task);
    }
    EXPECT_TRUE(saw_cancel);
    ASSERT_TRUE(loop.run_once(0));
    EXPECT_FALSE(called);
}

// As a read from a disk that hangs: its end must not be the daemon's.
TEST(Background, OneThatIsStuckIsLeftToItself) {
    auto loop = *EventLoop::create();
    const auto gate = std::make_shared<std::atomic<bool>>(false);
    auto task = BackgroundTask::start(
        loop,
        [gate](const BackgroundTask::Canceled&) -> Result<> {
            while (!*gate)
                std::this_thread::sleep_for(milliseconds(1));
            return {};
        },
        [](const Result<>&) { FAIL() << "nobody waits any more"; }
    );
    ASSERT_TRUE(task);
    const auto begin = now_monotonic();
    task->reset();
    EXPECT_LT(now_monotonic() - begin, 5 * kUsecPerSec);
    *gate = true;
    ASSERT_TRUE(loop.run_once(20 * kUsecPerMsec));
}

} // namespace
} // namespace thaw
