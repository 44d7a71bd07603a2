// SPDX-License-Identifier: MIT
#include "api/shares1.hpp"
#include "exit_class.hpp"

#include <gtest/gtest.h>

#include <signal.h>

namespace thaw::sharesd {
namespace {

using enum ExitClass;

ExitQuestion exited(int status, bool error_logged = false) {
    return {
        .unit =
            {.active_state = "inactive",
             .result = "success",
             .exec_main_code = CLD_EXITED,
             .exec_main_status = status},
        .was_connected = true,
        .error_logged = error_logged,
    };
}

ExitQuestion killed(int signal) {
    return {
        .unit =
            {.active_state = "failed",
             .result = "signal",
             .exec_main_code = CLD_KILLED,
             .exec_main_status = signal},
        .was_connected = true,
    };
}

TEST(ClassifyExit, ByStatus) {
    EXPECT_EQ(classify_exit(exited(0)), PeerGone);
    // SIGTERM's answer and an error have the same status; an error is told.
    EXPECT_EQ(classify_exit(exited(1)), Stopped);
    EXPECT_EQ(classify_exit(exited(1, true)), ExitCode);
    EXPECT_EQ(classify_exit(exited(101)), ExitCode);
    auto early = exited(1, true);
    early.was_connected = false;
    EXPECT_EQ(classify_exit(early), StartFailed);
    // exec() itself failed.
    early.error_logged = false;
    early.unit.exec_main_status = 203;
    EXPECT_EQ(classify_exit(early), StartFailed);
}

TEST(ClassifyExit, ASignalOfEitherProcess) {
    EXPECT_EQ(classify_exit(killed(SIGKILL)), Signal);
    EXPECT_EQ(classify_exit(killed(SIGSYS)), Seccomp);
    EXPECT_EQ(classify_exit(killed(SIGTERM)), Stopped);
    // The outer process exits with the negative number of the inner one's signal.
    EXPECT_EQ(classify_exit(exited(256 - SIGSYS)), Seccomp);
    EXPECT_EQ(classify_exit(exited(256 - SIGSEGV)), Signal);
    auto oom = killed(SIGKILL);
    oom.unit.result = "oom-kill";
    EXPECT_EQ(classify_exit(oom), OutOfMemory);
}

TEST(ClassifyExit, AProtocolErrorEndsWithStatusZero) {
    auto question = exited(0);
    question.protocol_error_logged = true;
    EXPECT_EQ(classify_exit(question), ProtocolError);
    question.unit.exec_main_status = 1;
    EXPECT_EQ(classify_exit(question), ProtocolError);
}

TEST(ClassifyExit, AStopBySystemdIsNoFailureWhateverItTook) {
    for (auto question : {killed(SIGKILL), exited(0), exited(1, true), exited(101)}) {
        question.unit.left_active = 1000;
        question.unit.main_ended = 1200;
        EXPECT_EQ(classify_exit(question), Stopped);
        // It left "active" because the process had ended.
        const auto by_itself = [&] {
            auto other = question;
            other.unit.left_active = 1300;
            return classify_exit(other);
        };
        EXPECT_NE(by_itself(), Stopped);
    }
    auto oom = killed(SIGKILL);
    oom.unit.result = "oom-kill"; // systemd stops what is left then
    oom.unit.left_active = 1000;
    oom.unit.main_ended = 1200;
    EXPECT_EQ(classify_exit(oom), OutOfMemory);
}

TEST(ClassifyExit, AMuteDaemonThatEndsWithoutAWordWasKilled) {
    auto question = exited(1);
    question.is_mute = true;
    EXPECT_EQ(classify_exit(question), Signal);
    EXPECT_NE(
        describe_exit(Signal, question.unit).find("killed in its sandbox"), std::string::npos
    );
    question.error_logged = true;
    EXPECT_EQ(classify_exit(question), ExitCode);
    question.error_logged = false;
    question.unit.left_active = 1000;
    question.unit.main_ended = 1200;
    EXPECT_EQ(classify_exit(question), Stopped);
}

TEST(ClassifyExit, WhatSystemdHasForgottenEndedWell) {
    EXPECT_EQ(classify_exit({.unit = {.active_state = "inactive"}}), PeerGone);
}

TEST(DescribeExit, NamesTheSignal) {
    EXPECT_EQ(describe_exit(Signal, killed(SIGKILL).unit), "killed by SIGKILL");
    EXPECT_EQ(describe_exit(Seccomp, exited(256 - SIGSYS).unit), "killed by SIGSYS");
    EXPECT_EQ(describe_exit(ExitCode, exited(7).unit), "exited with status 7");
}

TEST(ReadLogLine, KnowsWhatMatters) {
    EXPECT_EQ(
        read_log_line(
            "[2026-03-01T10:00:00Z INFO  virtiofsd] Waiting for vhost-user socket connection..."
        ),
        LogHint::Waiting
    );
    EXPECT_EQ(
        read_log_line("INFO virtiofsd] Client connected, servicing requests"), LogHint::Connected
    );
    EXPECT_EQ(
        read_log_line("virtio_session_mount: Received vhost-user socket connection"),
        LogHint::Connected
    );
    EXPECT_EQ(
        read_log_line("INFO virtiofsd] Client disconnected, shutting down"), LogHint::Disconnected
    );
    EXPECT_EQ(
        read_log_line("ERROR virtiofsd::passthrough::guest_fd_limit] No more file descriptors "
                      "available to the guest (0 available out of 414 initially), consider"),
        LogHint::Exhausted
    );
    EXPECT_EQ(
        read_log_line("WARN virtiofsd] Filesystem does not support file handles, falling back"),
        LogHint::HandlesOff
    );
    EXPECT_EQ(
        read_log_line("ERROR virtiofsd] Waiting for daemon failed: x"), LogHint::ProtocolError
    );
    EXPECT_EQ(
        read_log_line("fv_panic: libvhost-user: Error: too big message request: -1"),
        LogHint::ProtocolError
    );
    EXPECT_EQ(read_log_line("ERROR virtiofsd] something else"), LogHint::Error);
    EXPECT_EQ(read_log_line("INFO virtiofsd] nothing"), LogHint::None);
    EXPECT_EQ(read_log_line(""), LogHint::None);
}

TEST(AfterExit, RestartsOnlyWhereTheVmmComesBack) {
    EXPECT_EQ(after_exit({.exit = PeerGone}).step, NextStep::End);
    EXPECT_EQ(after_exit({.exit = Stopped, .reconnectable = true}).step, NextStep::End);
    EXPECT_EQ(after_exit({.exit = Signal}).step, NextStep::Fail);
    EXPECT_EQ(after_exit({.exit = ProtocolError}).step, NextStep::Fail);
    EXPECT_EQ(after_exit({.exit = StartFailed, .reconnectable = true}).step, NextStep::Fail);
    const auto back = after_exit({.exit = PeerGone, .reconnectable = true, .restarts = 99});
    EXPECT_EQ(back.step, NextStep::Restart);
    EXPECT_EQ(back.delay, 0U);
    EXPECT_FALSE(back.counts);
}

TEST(AfterExit, TheDelayDoublesUpToItsBoundAndTheLimitEndsIt) {
    FollowQuestion question{
        .exit = Signal,
        .reconnectable = true,
        .restarts = 0,
        .limit = 5,
        .first_delay = 100,
        .longest_delay = 900
    };
    for (const Microseconds delay : {100, 200, 400, 800, 900}) {
        const auto next = after_exit(question);
        EXPECT_EQ(next.step, NextStep::Restart);
        EXPECT_EQ(next.delay, delay);
        EXPECT_TRUE(next.counts);
        ++question.restarts;
    }
    const auto last = after_exit(question);
    EXPECT_EQ(last.step, NextStep::Fail);
    EXPECT_TRUE(last.limit_hit);
    question.limit = question.restarts = 1000;
    question.limit++;
    EXPECT_EQ(after_exit(question).delay, 900U); // no overflow of the shift
}

TEST(ErrorOf, EveryFailureHasOne) {
    EXPECT_EQ(error_of(PeerGone), "");
    EXPECT_EQ(error_of(Stopped), "");
    EXPECT_EQ(error_of(Seccomp), shares1::error::kSeccompKill);
    EXPECT_EQ(error_of(Signal), shares1::error::kDaemonKilled);
    EXPECT_EQ(error_of(ProtocolError), shares1::error::kProtocolError);
}

} // namespace
} // namespace thaw::sharesd
