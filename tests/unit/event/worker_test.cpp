// SPDX-License-Identifier: MIT
#include "event/worker.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace thaw {
namespace {

class Threads : public testing::Test {
protected:
    void SetUp() override {
        mailbox_ = std::move(*Mailbox::create(*loop_));
        worker_ = std::move(*Worker::start(*mailbox_, "test"));
    }
    template <class Condition>
    bool until(Condition condition) {
        const auto deadline = now_monotonic() + 10 * kUsecPerSec;
        while (!condition() && now_monotonic() < deadline)
            (void)loop_->run_once(10 * kUsecPerMsec);
        return condition();
    }
    Result<EventLoop> loop_ = EventLoop::create();
    std::unique_ptr<Mailbox> mailbox_;
    std::unique_ptr<Worker> worker_;
};

TEST_F(Threads, AnswersComeInTheLoopAndInOrder) {
    const auto here = std::this_thread::get_id();
    std::vector<int> answers;
    bool elsewhere = true;
    for (int i = 0; i < 5; ++i)
        worker_->run<int>(
            [&elsewhere, here, i] {
                elsewhere = elsewhere && std::this_thread::get_id() != here;
                return i;
            },
            [&](int value) {
                EXPECT_EQ(std::this_thread::get_id(), here);
                answers.push_back(value);
            }
        );
    EXPECT_NE(worker_->oldest(), kInfinity);
    EXPECT_TRUE(until([&] { return answers.size() == 5; }));
    EXPECT_EQ(answers, (std::vector<int>{0, 1, 2, 3, 4}));
    EXPECT_TRUE(elsewhere);
    EXPECT_EQ(worker_->oldest(), kInfinity);
}

TEST_F(Threads, OneThatHangsStopsNobodyElse) {
    auto release = std::make_shared<std::atomic<bool>>(false);
    bool answered = false;
    worker_->run<int>(
        [release] {
            while (!*release)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return 1;
        },
        [&](int) { answered = true; }
    );
    auto other = std::move(*Worker::start(*mailbox_, "other"));
    int value = 0;
    other->run<int>([] { return 2; }, [&](int got) { value = got; });
    EXPECT_TRUE(until([&] { return value == 2; }));
    EXPECT_FALSE(answered);
    // Ending it neither waits nor lets its answer through.
    const auto begin = now_monotonic();
    worker_.reset();
    EXPECT_LT(now_monotonic() - begin, kUsecPerSec);
    *release = true;
    other->run<int>([] { return 3; }, [&](int got) { value = got; });
    EXPECT_TRUE(until([&] { return value == 3; }));
    EXPECT_FALSE(answered);
}

TEST_F(Threads, AnAnswerMayEndItsOwnWorker) {
    bool answered = false;
    worker_->run<int>(
        [] { return 1; },
        [&](int) {
            worker_.reset();
            answered = true;
        }
    );
    EXPECT_TRUE(until([&] { return answered; }));
}

} // namespace
} // namespace thaw
