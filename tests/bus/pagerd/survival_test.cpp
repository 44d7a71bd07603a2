// SPDX-License-Identifier: MIT
// The rules that keep VMs alive: brokers and workers die at every moment, guests notice nothing.
#include "api/pager1.hpp"
#include "core/file.hpp"
#include "fixture.hpp"

#include <csignal>

namespace thaw::pagerd {
namespace {

using Survival = PagerdTest;

TEST_F(Survival, BrokerDiesBetweenCreateAndConnect) {
    start_daemon();
    ASSERT_EQ(create("a"), "");
    kill_daemon();
    auto vmm = make_vmm("a");
    vmm.connect();
    ASSERT_TRUE(answer(vmm)); // it waits in the backlog
    vmm.check_pages(0, kPages);
    start_daemon();
    ASSERT_TRUE(answer(vmm));
    ASSERT_TRUE(wait_state("a", "serving"));
    EXPECT_EQ(text("a", "Image"), "sample");
}

TEST_F(Survival, BrokerDiesWhileItAsksWhoConnected) {
    start_daemon();
    ASSERT_EQ(create("a"), "");
    auto vmm = make_vmm("a");
    // The connection is accepted and kept, its unit not known yet.
    systemd_.reset();
    vmm.connect();
    ASSERT_TRUE(until([&] { return keeper_->count(".conn") == 1; }));
    kill_daemon();
    start_systemd();
    systemd_->set_pid_unit(static_cast<std::uint32_t>(vmm.pid()), unit_of("a"));
    ASSERT_TRUE(answer(vmm));
    start_daemon();
    ASSERT_TRUE(wait_state("a", "serving"));
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
    EXPECT_TRUE(until([&] { return keeper_->count(".conn") == 0; }));
}

TEST_F(Survival, BrokerDiesWorkerServesOnAndIsAdopted) {
    start_daemon();
    auto vmm = serve("a");
    EXPECT_TRUE(check_pages(vmm, 0, 100));
    const auto worker = number("a", "WorkerPID");
    const auto id = text("a", "Id");
    kill_daemon();
    EXPECT_TRUE(check_pages(vmm, 100, 300)); // nobody but the worker is there
    start_daemon();
    ASSERT_TRUE(until([&] { return !flag("a", "Adopting"); }));
    EXPECT_EQ(text("a", "State"), "serving");
    EXPECT_EQ(number("a", "WorkerPID"), worker);
    EXPECT_EQ(number("a", "WorkerRestarts"), 0U);
    EXPECT_EQ(text("a", "Id"), id);
    EXPECT_TRUE(check_pages(vmm, 400, kPages - 400));
}

TEST_F(Survival, WorkerDies) {
    start_daemon();
    auto vmm = serve("a");
    for (std::uint64_t round = 0; round < 4; ++round) {
        const auto worker = number("a", "WorkerPID");
        ASSERT_GT(worker, 1U);
        EXPECT_TRUE(check_pages(vmm, round * 100, 50));
        ::kill(static_cast<pid_t>(worker), SIGKILL);
        EXPECT_TRUE(check_pages(vmm, round * 100 + 50, 50));
        EXPECT_NE(number("a", "WorkerPID"), worker);
        EXPECT_EQ(number("a", "WorkerRestarts"), round + 1);
        ASSERT_TRUE(wait_state("a", "serving"));
    }
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
    EXPECT_TRUE(until([&] { return keeper_->count(".worker") == 1; }));
}

TEST_F(Survival, StoppedWorkerIsReplaced) {
    write_config("WorkerStuckSec=300ms");
    start_daemon();
    auto vmm = serve("a");
    const auto worker = number("a", "WorkerPID");
    ::kill(static_cast<pid_t>(worker), SIGSTOP);
    const auto began = now_monotonic();
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
    EXPECT_GT(now_monotonic() - began, 250 * kUsecPerMsec);
    EXPECT_LT(now_monotonic() - began, 5 * kUsecPerSec);
    EXPECT_NE(number("a", "WorkerPID"), worker);
    EXPECT_EQ(number("a", "WorkerRestarts"), 1U);
    ASSERT_TRUE(wait_state("a", "serving"));
    // An idle one is not stuck, however long.
    fakes::run_for(*loop_, kUsecPerSec);
    EXPECT_EQ(number("a", "WorkerRestarts"), 1U);
}

TEST_F(Survival, BothDie) {
    start_daemon();
    auto vmm = serve("a");
    const auto worker = number("a", "WorkerPID");
    EXPECT_TRUE(check_pages(vmm, 0, 100));
    vmm.discard(10, 20);
    EXPECT_TRUE(answer(vmm));
    // Stopped first: it must not leave a Hello with its descriptors in the control socket.
    ::kill(static_cast<pid_t>(worker), SIGSTOP);
    kill_daemon();
    ::kill(static_cast<pid_t>(worker), SIGKILL);
    vmm.check_pages(100, kPages - 100); // waits
    start_daemon();
    EXPECT_TRUE(answer(vmm));
    vmm.check_zeros(10, 20);
    EXPECT_TRUE(answer(vmm));
    ASSERT_TRUE(wait_state("a", "serving"));
    EXPECT_NE(number("a", "WorkerPID"), worker);
    EXPECT_FALSE(flag("a", "Adopting"));
}

TEST_F(Survival, DialInAloneIsEnough) {
    start_daemon();
    auto vmm = serve("a");
    const auto worker = number("a", "WorkerPID");
    EXPECT_TRUE(check_pages(vmm, 0, 100));
    kill_daemon();
    keeper_->clear(); // as `systemctl stop` does before systemd 254
    start_daemon();
    ASSERT_TRUE(until([&] { return text("a", "State") == "serving"; }));
    EXPECT_EQ(number("a", "WorkerPID"), worker);
    EXPECT_TRUE(check_pages(vmm, 100, kPages - 100));
    // All is kept again: this broker's death is survived as well, even without the worker.
    EXPECT_TRUE(until([&] { return keeper_->stored().size() == 5; })) << keeper_->stored().size();
    kill_daemon();
    ::kill(static_cast<pid_t>(worker), SIGKILL);
    start_daemon();
    vmm.discard(0, 5);
    EXPECT_TRUE(answer(vmm));
    vmm.check_zeros(0, 5);
    EXPECT_TRUE(answer(vmm));
    ASSERT_TRUE(wait_state("a", "serving"));
}

TEST_F(Survival, StoreAloneIsEnough) {
    write_config("AdoptionTimeoutSec=200ms\nWorkerStuckSec=300ms");
    start_daemon();
    auto vmm = serve("a");
    const auto worker = number("a", "WorkerPID");
    // It lives, holds the lock, and neither dials in nor serves.
    ::kill(static_cast<pid_t>(worker), SIGSTOP);
    kill_daemon();
    keeper_->remove_role(".worker"); // found by its lock then
    start_daemon();
    EXPECT_EQ(number("a", "WorkerPID"), worker);
    ASSERT_TRUE(until([&] { return !flag("a", "Adopting"); }));
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
    EXPECT_NE(number("a", "WorkerPID"), worker);
    ASSERT_TRUE(wait_state("a", "serving"));
}

TEST_F(Survival, SessionIsGoneWhenItsVmmDiedWithoutABroker) {
    start_daemon();
    {
        auto vmm = serve("a");
        kill_daemon();
    }
    start_daemon();
    EXPECT_EQ(sessions(), 0U);
    EXPECT_TRUE(until([&] { return keeper_->stored().empty(); }));
    EXPECT_NE(::access((runtime_ + "/vm/a").c_str(), F_OK), 0);
}

// Counted as systemd counts: what could not be taken over is counted out once.
TEST_F(Survival, WhatIsStoredIsCountedWell) {
    start_daemon();
    auto living = serve("living");
    {
        auto vmm = serve("gone");
        kill_daemon();
    }
    start_daemon();
    EXPECT_EQ(sessions(), 1U);
    const auto told = [this] { return keeper_->status.substr(keeper_->status.find(',') + 2); };
    EXPECT_TRUE(until([&] {
        return told() == fmt::format("{} descriptors stored.", keeper_->stored().size());
    })) << keeper_->status
        << " of " << keeper_->stored().size();
    EXPECT_TRUE(check_pages(living, 0, kPages));
}

// Half of a session is held for its VMM's sake, and no longer: its pidfd tells when that is, and
// where that is what was lost, the memory itself is asked.
class Orphans : public Survival, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Lost, Orphans, ::testing::Values(".session", ".vmm"));

TEST_P(Orphans, GoWithTheirVmm) {
    write_config("AdoptionTimeoutSec=100ms");
    start_daemon();
    auto vmm = serve("a");
    const auto worker = number("a", "WorkerPID");
    ::kill(static_cast<pid_t>(worker), SIGSTOP); // as in BothDie
    kill_daemon();
    ::kill(static_cast<pid_t>(worker), SIGKILL);
    keeper_->remove_role(GetParam());
    start_daemon();
    fakes::run_for(*loop_, 500 * kUsecPerMsec);
    EXPECT_EQ(keeper_->count(".uffd"), 1U);
    vmm.check_pages(0, 1); // waits; zeros would be wrong
    EXPECT_FALSE(answer(vmm, 200 * kUsecPerMsec));
    vmm.kill();
    EXPECT_TRUE(until([&] { return keeper_->stored().empty(); })) << keeper_->stored().size();
}

TEST_F(Survival, UnknownNamesAreRemovedFromTheStore) {
    keeper_->add("stored", Fd(::dup(0)));
    keeper_->add("0123.listen", Fd(::dup(0)));
    keeper_->add("0123.memory", Fd(::dup(0)));
    write_config("AdoptionTimeoutSec=100ms");
    start_daemon();
    EXPECT_TRUE(until([&] { return keeper_->stored().empty(); })) << keeper_->stored().size();
}

TEST_F(Survival, WorkersThatDieAtOnceFailTheSession) {
    write_config("WorkerProgram=/bin/false\nWorkerRestartLimit=2");
    start_daemon();
    ASSERT_EQ(create("a"), "");
    auto vmm = make_vmm("a");
    vmm.connect();
    ASSERT_TRUE(answer(vmm));
    ASSERT_TRUE(wait_state("a", "failed"));
    EXPECT_EQ(text("a", "ErrorName"), pager1::error::kWorkerLost);
    EXPECT_TRUE(flag("a", "StopPending"));
    // The guest waits; it must not read made-up zeros.
    vmm.check_pages(0, 1);
    EXPECT_FALSE(answer(vmm, 300 * kUsecPerMsec));
    EXPECT_EQ(keeper_->count(".uffd"), 1U);
    EXPECT_EQ(close("a"), "");
    EXPECT_EQ(sessions(), 1U);
    vmm.kill();
    EXPECT_TRUE(until([&] { return removed_ == std::vector<std::string>{"a:closed"}; }));
    EXPECT_TRUE(until([&] { return keeper_->stored().empty(); }));
}

TEST_F(Survival, CloseWaitsForTheEndOfTheVmm) {
    start_daemon();
    auto vmm = serve("a");
    EXPECT_EQ(close("a"), "");
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
    EXPECT_EQ(sessions(), 1U);
    EXPECT_TRUE(removed_.empty());
    vmm.kill();
    EXPECT_TRUE(until([&] { return removed_ == std::vector<std::string>{"a:closed"}; }));
}

TEST_F(Survival, EndOfTheVmmEndsTheSession) {
    start_daemon();
    const auto fds_before = daemon_fds();
    auto vmm = serve("a");
    const auto worker = static_cast<pid_t>(number("a", "WorkerPID"));
    EXPECT_TRUE(check_pages(vmm, 0, 10));
    vmm.kill();
    EXPECT_TRUE(until([&] { return removed_ == std::vector<std::string>{"a:vmm-exited"}; }));
    EXPECT_TRUE(until([&] { return keeper_->stored().empty(); }));
    EXPECT_TRUE(until([&] { return ::kill(worker, 0) != 0; }));
    EXPECT_TRUE(until([&] { return daemon_fds() == fds_before; })) << daemon_fds();
    EXPECT_NE(::access((runtime_ + "/vm/a").c_str(), F_OK), 0);
}

TEST_F(Survival, SafeModeKeepsAndTakesNothingNew) {
    write_config("StartLimitBurst=3\nAdoptionTimeoutSec=200ms");
    start_daemon();
    auto living = serve("living");
    auto orphaned = serve("orphaned");
    ASSERT_EQ(create("waiting"), "");
    const auto victim = number("orphaned", "WorkerPID");
    for (int i = 0; i < 3; ++i) {
        kill_daemon();
        if (i == 2) ::kill(static_cast<pid_t>(victim), SIGKILL);
        start_daemon();
    }
    EXPECT_TRUE(keeper_->status.starts_with("Safe mode.")) << keeper_->status;
    EXPECT_EQ(create("new"), pager1::error::kSafeMode);
    EXPECT_EQ(sessions(), 3U);
    EXPECT_TRUE(check_pages(living, 0, kPages));
    EXPECT_FALSE(flag("living", "StopPending"));
    ASSERT_TRUE(wait_state("orphaned", "failed"));
    EXPECT_EQ(text("orphaned", "ErrorName"), pager1::error::kWorkerLost);
    EXPECT_TRUE(flag("orphaned", "StopPending"));
    EXPECT_EQ(keeper_->count(".uffd"), 2U);
    // A VMM that connects waits; the next orderly start serves it.
    auto vmm = make_vmm("waiting");
    vmm.connect();
    ASSERT_TRUE(answer(vmm));
    kill_daemon();
    ASSERT_TRUE(remove_if_exists(runtime_ + "/starts"));
    start_daemon();
    ASSERT_TRUE(wait_state("waiting", "serving"));
    EXPECT_TRUE(check_pages(vmm, 0, kPages));
    EXPECT_TRUE(check_pages(orphaned, 0, kPages));
}

} // namespace
} // namespace thaw::pagerd
