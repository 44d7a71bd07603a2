// SPDX-License-Identifier: MIT
// A share's start: what is proven before the answer, and what is left after a failure.
#include "core/file.hpp"
#include "core/names.hpp"
#include "fixture.hpp"
#include "unit_files.hpp"

#include <filesystem>

namespace thaw::sharesd {
namespace {

class StartTest : public SharesdTest {};

TEST_F(StartTest, TheDaemonRunsAndWasCheckedWhenTheAnswerComes) {
    start_daemon();
    const auto reply = add();
    ASSERT_EQ(reply.error, "") << reply.text;
    EXPECT_EQ(text("State"), "listening");
    EXPECT_EQ(text("Dialect"), "c");
    EXPECT_EQ(number("EffectiveLimit"), kLimit);
    EXPECT_EQ(number("DescriptorBudget"), kLimit - 16);
    const auto drop_in = read_file(drop_in_path(paths::kRuntimeUnits, service()));
    ASSERT_TRUE(drop_in);
    EXPECT_NE(drop_in->find("BindPaths=\"/run/source\":/run/thaw/share"), std::string::npos);
    EXPECT_EQ(remove().error, "");
    expect_clean();
    EXPECT_EQ(signals_, (std::vector<std::string>{"ShareRemoved tag removed"}));
}

TEST_F(StartTest, AnotherDirectoryThanWasCheckedIsNotShared) {
    start_daemon();
    bound_source_ = "/run/other";
    EXPECT_EQ(add().error, "SourceChanged");
    expect_clean();
}

TEST_F(StartTest, ALimitThatSystemdLoweredSilentlyIsRefused) {
    start_daemon();
    given_limit_ = kLimit - 1;
    const auto reply = add();
    EXPECT_EQ(reply.error, "LimitTooLow");
    EXPECT_NE(reply.text.find("255"), std::string::npos) << reply.text;
    expect_clean();
    const auto opted_in =
        add("tag", [](BusMessage& m) { return m.append("{sv}", "OnLowLimit", "s", "degraded"); });
    EXPECT_EQ(opted_in.error, "") << opted_in.text;
    EXPECT_EQ(number("EffectiveLimit"), kLimit - 1);
}

TEST_F(StartTest, EveryWayAStartCanFailLeavesNothing) {
    start_daemon();
    systemd_->plan_start(service(), {.job_result = "dependency", .active_state = "inactive"});
    EXPECT_EQ(add().error, "SocketFailed");
    expect_clean();
    systemd_->plan_start(service(), {.job_result = "failed", .active_state = "failed"});
    EXPECT_EQ(add().error, "StartFailed");
    expect_clean();
    systemd_->plan_start(service(), {.error_name = "org.freedesktop.systemd1.LoadFailed"});
    EXPECT_EQ(add().error, "StartFailed");
    expect_clean();
    // The job is done, and the daemon is gone.
    systemd_->plan_start(service(), {.active_state = "failed", .unit_result = "exit-code"});
    EXPECT_EQ(add().error, "StartFailed");
    expect_clean();
    // No end of the job within StartTimeoutSec=.
    systemd_->plan_start(service(), {.never_finish = true});
    EXPECT_EQ(add().error, "StartFailed");
    systemd_->finish_job(service(), "canceled");
    expect_clean();
    EXPECT_EQ(add().error, "");
    EXPECT_TRUE(signals_.empty()) << signals_.front();
}

TEST_F(StartTest, ASecondShareOfThatNameIsRefusedAndTheFirstStays) {
    start_daemon();
    ASSERT_EQ(add().error, "");
    EXPECT_EQ(add().error, "ShareExists");
    EXPECT_EQ(text("State"), "listening");
    EXPECT_EQ(add("other").error, "");
}

TEST_F(StartTest, MaxSharesHolds) {
    configure("MaxShares=1\n");
    start_daemon();
    ASSERT_EQ(add().error, "");
    EXPECT_EQ(add("other").error, "TooManyShares");
}

TEST_F(StartTest, AStartThatWasCutOffIsTakenAwayByTheNextSupervisor) {
    start_daemon();
    systemd_->plan_start(service(), {.never_finish = true});
    auto message =
        bus_->new_call(shares1::kBusName, shares1::kPath, shares1::kManagerInterface, "AddShare");
    ASSERT_TRUE(message);
    ASSERT_TRUE(message->append("sssa{sv}t", "vm", "tag", kSource, 0, std::uint64_t{0}));
    const auto pending = bus_->call(std::move(*message), [](const Result<BusMessage>&) {});
    const auto drop_in = drop_in_path(paths::kRuntimeUnits, service());
    ASSERT_TRUE(until([&] { return systemd_->has_job(service()); }));
    EXPECT_TRUE(std::filesystem::exists(drop_in));
    kill_daemon();
    systemd_->finish_job(service(), "done");
    start_daemon();
    EXPECT_TRUE(until([&] { return !std::filesystem::exists(drop_in); }));
    expect_clean();
    EXPECT_EQ(text("State"), "UnknownObject");
}

} // namespace
} // namespace thaw::sharesd
