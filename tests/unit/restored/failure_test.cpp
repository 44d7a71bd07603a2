// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "bus/errors.hpp"
#include "failure.hpp"
#include "vmm_requests.hpp"

#include <gtest/gtest.h>

#include <signal.h>
#include <sys/wait.h>

namespace thaw::restore {
namespace {

namespace error = restore1::error;
using ::testing::Test;

UnitState killed() {
    return {
        .active_state = "failed",
        .result = "signal",
        .exec_main_code = CLD_KILLED,
        .exec_main_status = SIGKILL,
    };
}

TEST(ImageFailure, NamesTellWhatToDo) {
    EXPECT_EQ(image_failure({ENOENT, "x"}).name, error::kNoSuchImage);
    EXPECT_EQ(image_failure({ESTALE, "x"}).name, error::kImageMismatch);
    for (const int code : {EBADMSG, ELOOP, EPROTONOSUPPORT, EACCES})
        EXPECT_EQ(image_failure({code, "x"}).name, error::kImageInvalid);
}

TEST(PagerFailure, AnAnswerIsNotAnAbsence) {
    EXPECT_EQ(
        pager_failure({pager1::error::kTooManySessions, EAGAIN, "x"}).name, error::kPagerFailed
    );
    EXPECT_EQ(pager_failure({EHOSTUNREACH, "x"}).name, error::kPagerUnavailable);
    EXPECT_EQ(pager_failure({ETIMEDOUT, "x"}).name, error::kPagerUnavailable);
    for (const char* name :
         {SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT, SD_BUS_ERROR_SERVICE_UNKNOWN,
          SD_BUS_ERROR_NAME_HAS_NO_OWNER, SD_BUS_ERROR_DISCONNECTED,
          "org.freedesktop.systemd1.UnitMasked"}) {
        const sd_bus_error said{.name = name, .message = "x", ._need_free = 0};
        EXPECT_EQ(pager_failure(error_from_bus(said)).name, error::kPagerUnavailable) << name;
        EXPECT_EQ(shares_failure(error_from_bus(said)).name, error::kSharesUnavailable) << name;
    }
    // Said by the daemon: it is there, and asking again brings the same.
    for (const char* name :
         {SD_BUS_ERROR_INVALID_ARGS, SD_BUS_ERROR_ACCESS_DENIED, SD_BUS_ERROR_UNKNOWN_METHOD,
          "System.Error.EIO", "System.Error.ENOSPC"}) {
        const sd_bus_error said{.name = name, .message = "x", ._need_free = 0};
        EXPECT_EQ(pager_failure(error_from_bus(said)).name, error::kPagerFailed) << name;
        EXPECT_EQ(shares_failure(error_from_bus(said)).name, error::kShareFailed) << name;
    }
}

TEST(FileFailure, AFullDiskIsNoSpace) {
    EXPECT_EQ(file_failure({ENOSPC, "x"}).name, error::kNoSpace);
    EXPECT_EQ(file_failure({EROFS, "x"}).name, error::kUnitStartFailed);
}

TEST(UnitEnd, IsToldInWords) {
    EXPECT_EQ(describe_unit_end(killed()), "the VM's unit ended: signal, signal KILL");
    UnitState exited{.result = "exit-code", .exec_main_code = CLD_EXITED, .exec_main_status = 148};
    EXPECT_EQ(describe_unit_end(exited), "the VM's unit ended: exit-code, exit status 148");
    exited.exec_main_status = 203; // what systemd says when it cannot start the program
    EXPECT_EQ(describe_unit_end(exited), "the VM's unit ended: exit-code, exit status 203/EXEC");
}

TEST(Decide, ThePagersReasonExplainsTheVmmsComplaint) {
    const SessionFailure regions{std::string(pager1::error::kRegionsInvalid), "regions overlap"};
    const auto cause =
        decide({.name = error::kLoadFailed, .message = "load snapshot: no"}, std::nullopt, regions);
    EXPECT_EQ(cause.name, error::kPagerFailed);
    EXPECT_TRUE(cause.message.starts_with("org.thaw.pager1.Error.RegionsInvalid: regions overlap"))
        << cause.message;
    EXPECT_NE(cause.message.find("load snapshot: no"), std::string::npos);
}

TEST(Decide, ADeadVmmExplainsALostConnection) {
    const Failure lost{.name = error::kLoadFailed, .message = "closed", .connection_lost = true};
    const auto cause = decide(lost, killed(), std::nullopt);
    EXPECT_EQ(cause.name, error::kVmmDied);
    EXPECT_NE(cause.message.find("signal KILL"), std::string::npos) << cause.message;
    // Nothing is known of an end: what the step said stays.
    EXPECT_EQ(decide(lost, std::nullopt, std::nullopt).name, error::kLoadFailed);
}

TEST(Decide, ThePagerOnlySawTheVmmGo) {
    const SessionFailure exited{std::string(pager1::error::kVmmExited), "gone"};
    EXPECT_TRUE(wants_unit_end(session_failure(exited), exited));
    EXPECT_EQ(decide(session_failure(exited), killed(), exited).name, error::kVmmDied);
    const Failure refused{.name = error::kLoadFailed, .message = "bad file"};
    EXPECT_EQ(decide(refused, killed(), exited).name, error::kLoadFailed);
}

TEST(Decide, ARefusalIsTheCauseOfTheEndThatFollows) {
    // Firecracker ends after a refused load.
    const Failure refused{.name = error::kLoadFailed, .message = "bad file"};
    EXPECT_EQ(decide(refused, killed(), std::nullopt).name, error::kLoadFailed);
    EXPECT_FALSE(wants_unit_end(refused, std::nullopt));
}

TEST(Requests, LoadBodyHasOnlyWhatOldVmmsKnow) {
    EXPECT_EQ(
        load_body({.state_path = "/i/vmstate", .backend_path = "/p/uffd.sock"}),
        R"({"mem_backend":{"backend_path":"/p/uffd.sock","backend_type":"Uffd"},)"
        R"("resume_vm":false,"snapshot_path":"/i/vmstate"})"
    );
    const auto body = load_body({
        .state_path = "/i/vmstate",
        .backend = Backend::File,
        .backend_path = "/i/memory",
        .network_overrides = {{"eth0", "tap7"}},
    });
    EXPECT_NE(body.find(R"("backend_type":"File")"), std::string::npos) << body;
    EXPECT_NE(
        body.find(R"("network_overrides":[{"host_dev_name":"tap7","iface_id":"eth0"}])"),
        std::string::npos
    ) << body;
    EXPECT_EQ(vm_state_body(VmState::Resumed), R"({"state":"Resumed"})");
}

TEST(Requests, TheVmmsWordsAreKeptInOneLine) {
    EXPECT_EQ(
        refusal_text({400, R"({"fault_message":"Load error:\n no file"})"}), "Load error:  no file"
    );
    EXPECT_EQ(refusal_text({500, "oops"}), "HTTP status 500: oops");
    EXPECT_LT(refusal_text({400, std::string(60000, 'x')}).size(), 500U);
}

TEST(Requests, RepliesAreJudged) {
    const auto judge = [](const Result<HttpReply>& reply) {
        return judge_reply(reply, "load snapshot", error::kLoadFailed, error::kLoadTimeout);
    };
    EXPECT_FALSE(judge(HttpReply{204, ""}));
    const auto refused = judge(HttpReply{400, R"({"fault_message":"no"})"});
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->name, error::kLoadFailed);
    EXPECT_EQ(refused->message, "load snapshot: no");
    const auto late = judge(fail(ETIMEDOUT, "late"));
    ASSERT_TRUE(late);
    EXPECT_EQ(late->name, error::kLoadTimeout);
    EXPECT_TRUE(late->timed_out);
    const auto lost = judge(fail(ECONNRESET, "lost"));
    ASSERT_TRUE(lost);
    EXPECT_TRUE(lost->connection_lost);
}

TEST(Requests, OnlyTheWordRunningRuns) {
    EXPECT_TRUE(says_running({200, R"({"state":"Running"})"}));
    EXPECT_FALSE(says_running({200, R"({"state":"Paused"})"}));
    EXPECT_FALSE(says_running({200, "Running"}));
    EXPECT_FALSE(says_running({400, R"({"state":"Running"})"}));
}

} // namespace
} // namespace thaw::restore
