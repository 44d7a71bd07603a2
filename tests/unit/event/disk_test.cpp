// SPDX-License-Identifier: MIT
#include "event/disk.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace thaw {
namespace {

class DiskTest : public testing::Test {
protected:
    // Work that ends when it is let go, as on a disk that hangs.
    std::function<Result<int>()> hang() const {
        return [gate = gate_] {
            while (!*gate)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return Result<int>(1);
        };
    }
    template <class Condition>
    bool until(Condition condition) {
        const auto deadline = now_monotonic() + 10 * kUsecPerSec;
        while (!condition() && now_monotonic() < deadline)
            (void)loop_->run_once(10 * kUsecPerMsec);
        return condition();
    }
    void TearDown() override { *gate_ = true; }

    std::shared_ptr<std::atomic<bool>> gate_ = std::make_shared<std::atomic<bool>>(false);
    Result<EventLoop> loop_ = EventLoop::create();
    std::unique_ptr<Disk> disk_ = std::move(*Disk::create(*loop_, 200 * kUsecPerMsec));
    std::optional<Result<int>> answer_;
    std::function<void(Result<int>)> keep_ = [this](Result<int> value) { answer_ = value; };
};

TEST_F(DiskTest, AnswersAndErrorsComeInTheLoop) {
    const auto here = std::this_thread::get_id();
    std::thread::id worked;
    auto asked = disk_->ask<int>(
        "it",
        [&worked] {
            worked = std::this_thread::get_id();
            return Result<int>(7);
        },
        keep_
    );
    EXPECT_FALSE(answer_);
    ASSERT_TRUE(until([&] { return answer_.has_value(); }));
    EXPECT_EQ(*answer_, 7);
    EXPECT_NE(worked, here);
    answer_.reset();
    asked = disk_->ask<int>("it", [] { return Result<int>(fail(ENOENT, "gone")); }, keep_);
    ASSERT_TRUE(until([&] { return answer_.has_value(); }));
    EXPECT_EQ(answer_->error().code(), ENOENT);
}

TEST_F(DiskTest, OneThatHangsIsGivenUpAndHoldsNobodyElse) {
    const auto begin = now_monotonic();
    const auto asked = disk_->ask<int>("image a", hang(), keep_);
    std::optional<Result<int>> other;
    const auto beside = disk_->ask<int>(
        "image b", [] { return Result<int>(2); }, [&](Result<int> value) { other = value; }
    );
    ASSERT_TRUE(until([&] { return other.has_value(); }));
    EXPECT_EQ(*other, 2);
    EXPECT_FALSE(answer_);
    ASSERT_TRUE(until([&] { return answer_.has_value(); }));
    EXPECT_GE(now_monotonic() - begin, 200 * kUsecPerMsec);
    EXPECT_EQ(answer_->error().code(), ETIMEDOUT);
    EXPECT_EQ(answer_->error().message(), "image a: its disk did not answer within 200ms");
    // Its end is not waited for.
    disk_.reset();
    EXPECT_LT(now_monotonic() - begin, 5 * kUsecPerSec);
}

TEST_F(DiskTest, TheSameThingIsWorkedOffInOrder) {
    auto order = std::make_shared<std::vector<int>>();
    const auto late = [order, work = hang()] {
        (void)work();
        order->push_back(1);
        return Result<int>(1);
    };
    auto removal = disk_->ask<int>("the folder", late, keep_);
    ASSERT_TRUE(until([&] { return answer_.has_value(); })) << "it was given up";
    answer_.reset();
    const auto making = disk_->ask<int>(
        "the folder",
        [order] {
            order->push_back(2);
            return Result<int>(2);
        },
        keep_
    );
    ASSERT_TRUE(loop_->run_once(20 * kUsecPerMsec));
    *gate_ = true;
    ASSERT_TRUE(until([&] { return answer_.has_value(); }));
    EXPECT_EQ(*answer_, 2);
    EXPECT_EQ(*order, (std::vector<int>{1, 2}));
}

TEST_F(DiskTest, WhoLetsGoIsNotCalled) {
    auto asked = disk_->ask<int>("it", [] { return Result<int>(7); }, keep_);
    asked.reset();
    bool done = false;
    const auto after = disk_->ask<int>(
        "it", [] { return Result<int>(8); }, [&](const Result<int>&) { done = true; }
    );
    ASSERT_TRUE(until([&] { return done; }));
    EXPECT_FALSE(answer_);
}

} // namespace
} // namespace thaw
