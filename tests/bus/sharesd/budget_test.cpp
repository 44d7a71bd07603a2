// SPDX-License-Identifier: MIT
// A share's budget: descriptors, memory, and what is done when they run short.
#include "core/names.hpp"
#include "fixture.hpp"

#include <algorithm>

namespace thaw::sharesd {
namespace {

using Words = std::vector<std::string>;

constexpr std::uint64_t kMiB = 1 << 20;

class BudgetTest : public SharesdTest {
protected:
    void added(const Options& options = {}) {
        start_daemon();
        const auto reply = add("tag", options);
        ASSERT_EQ(reply.error, "") << reply.text;
    }
    void hold(std::uint32_t descriptors) { processes_.at(service())->hold(descriptors); }
    std::ptrdiff_t hook_starts() const {
        return std::ranges::count_if(systemd_->calls(), [](const fakes::FakeCall& call) {
            return call.member == "StartUnit" && call.unit == "drop-caches@vm.service";
        });
    }
};

TEST_F(BudgetTest, EveryLevelIsToldOnTheWayUpAndOnceOnTheWayDown) {
    added();
    hold(212); // 200 of 240 with what it has itself
    EXPECT_TRUE(wait_text("DescriptorLevel", "high"));
    EXPECT_EQ(levels_, (Words{"normal>elevated", "elevated>high"}));
    hold(252);
    EXPECT_TRUE(wait_text("State", "exhausted"));
    EXPECT_EQ(text("DescriptorLevel"), "critical");
    hold(0);
    EXPECT_TRUE(wait_text("State", "connected"));
    EXPECT_EQ(text("DescriptorLevel"), "normal");
    EXPECT_EQ(levels_.back(), "critical>normal");
    EXPECT_LT(number("Descriptors"), 16U);
}

TEST_F(BudgetTest, MemoryHasTheSameLevelsAgainstMemoryHigh) {
    constexpr std::uint64_t kHigh = 256 * kMiB;
    added([](BusMessage& m) { return m.append("{sv}", "MemoryHigh", "t", kHigh); });
    const auto base = number("MemoryRSS"); // of the process itself
    ASSERT_LT(base, kHigh / 2);
    struct Step {
        std::uint64_t percent;
        const char* level;
    };
    const Step steps[] = {{58, "normal"}, {62, "elevated"}, {78, "elevated"}, {82, "high"},
                          {93, "high"},   {97, "critical"}, {92, "critical"}, {88, "high"},
                          {77, "high"},   {73, "elevated"}, {57, "elevated"}, {53, "normal"}};
    for (const auto& [percent, level] : steps) {
        const auto wanted = kHigh / 100 * percent / 4096 * 4096;
        processes_.at(service())->occupy(wanted - base);
        const auto deadline = now_monotonic() + 10 * kUsecPerSec;
        const auto counted = [&] {
            const auto now = number("MemoryRSS");
            return std::max(now, wanted) - std::min(now, wanted) < kHigh / 100;
        };
        while (!counted() && now_monotonic() < deadline)
            fakes::run_for(*loop_, 20 * kUsecPerMsec);
        ASSERT_TRUE(counted()) << percent;
        EXPECT_EQ(text("MemoryLevel"), level) << percent;
    }
    EXPECT_EQ(
        levels_, (Words{
                     "memory:normal>elevated", "memory:elevated>high", "memory:high>critical",
                     "memory:critical>high", "memory:high>elevated", "memory:elevated>normal"
                 })
    );
    EXPECT_EQ(text("DescriptorLevel"), "normal");
    EXPECT_NE(log().find("vm:tag: memory high -> critical: "), std::string::npos);
}

TEST_F(BudgetTest, TheGuestIsAskedToDropItsCachesButNotAllTheTime) {
    configure("DropCachesUnit=drop-caches@.service\nDropCachesIntervalSec=1s\n");
    added();
    hold(170); // elevated: not yet
    ASSERT_TRUE(wait_text("DescriptorLevel", "elevated"));
    EXPECT_EQ(hook_starts(), 0);
    const auto begin = now_monotonic();
    hold(212);
    ASSERT_TRUE(wait_text("DescriptorLevel", "high"));
    EXPECT_TRUE(until([this] { return hook_starts() == 1; }));
    // It did not help: again, but after the interval.
    EXPECT_TRUE(until([this] { return hook_starts() == 2; }));
    EXPECT_GE(now_monotonic() - begin, kUsecPerSec);
    hold(0);
    ASSERT_TRUE(wait_text("DescriptorLevel", "normal"));
    const auto before = hook_starts();
    fakes::run_for(*loop_, 1500 * kUsecPerMsec);
    EXPECT_EQ(hook_starts(), before);
    // On demand at any time.
    EXPECT_EQ(call_share("DropCaches").error, "");
    EXPECT_TRUE(until([&] { return hook_starts() == before + 1; }));
}

TEST_F(BudgetTest, AHookThatFailsIsTold) {
    configure("DropCachesUnit=drop-caches@.service\n");
    added();
    systemd_->plan_start(
        "drop-caches@vm.service", {.job_result = "failed", .active_state = "failed"}
    );
    EXPECT_EQ(call_share("DropCaches").error, "");
    const auto told = "the guest did not drop its caches: drop-caches@vm.service ended as failed";
    const auto deadline = now_monotonic() + 10 * kUsecPerSec;
    while (log().find(told) == std::string::npos && now_monotonic() < deadline)
        fakes::run_for(*loop_, 20 * kUsecPerMsec);
    EXPECT_NE(log().find(told), std::string::npos);
    EXPECT_EQ(text("State"), "listening");
}

TEST_F(BudgetTest, WithoutAHookNobodyIsAsked) {
    added();
    EXPECT_EQ(call_share("DropCaches").error, "OptionUnsupported");
    hold(212);
    ASSERT_TRUE(wait_text("DescriptorLevel", "high"));
    EXPECT_EQ(hook_starts(), 0);
}

TEST_F(BudgetTest, TheLimitIsRaisedLiveAndNeverLowered) {
    added();
    hold(212);
    ASSERT_TRUE(wait_text("DescriptorLevel", "high"));
    const auto raise = [this](std::uint64_t limit) {
        return call_share(
                   "RaiseLimit", [limit](BusMessage& m) { return m.append("t", limit); }
        ).error;
    };
    EXPECT_EQ(raise(100), "InvalidArgs");
    // Above the hard limit without CAP_SYS_RESOURCE, or with it.
    const auto done = raise(kLimit * 4);
    if (done.empty()) {
        EXPECT_EQ(number("EffectiveLimit"), kLimit * 4);
        EXPECT_TRUE(wait_text("DescriptorLevel", "normal"));
    } else {
        EXPECT_EQ(done, "LimitTooLow");
        EXPECT_EQ(number("EffectiveLimit"), kLimit);
    }
}

} // namespace
} // namespace thaw::sharesd
