// SPDX-License-Identifier: MIT

// Restores, jobs and instances with the real thawctl and a fake restore manager.

#include "core/file.hpp"
#include "fake_restore.hpp"
#include "verb_fixture.hpp"

#include <nlohmann/json.hpp>

#include <signal.h>

namespace thaw::ctl {
namespace {

using testing::FakeRestore;
using testing::has;
using testing::ProgramOptions;
using testing::ProgramResult;

class BusVerbs : public testing::VerbTest<FakeRestore> {
protected:
    void add_instance(const std::string& name, const std::string& state) {
        fake_->instances[name] = {name, "base", "thaw-firecracker@" + name + ".service", state};
    }
};

TEST_F(BusVerbs, RestoreWaitsForTheEnd) {
    for (const char* name : {"good", "instant"}) {
        const auto result = run({"restore", name, "base"});
        EXPECT_EQ(result.exit_code, 0) << result.err;
        EXPECT_TRUE(has(result.out, "Restored VM \"" + std::string(name) + "\"")) << result.out;
        EXPECT_TRUE(has(result.out, "memory backend uffd (asked for)")) << result.out;
        EXPECT_EQ(result.err, "");
    }
}

TEST_F(BusVerbs, RestorePassesItsOptions) {
    // An option before the names must not swallow them.
    const auto result = run(
        {"restore", "--network-override", "eth0=tap0", "--network-override", "eth1=tap1", "good",
         "base", "--memory-backend=file", "--prefetch=no", "--load-timeout=1min"}
    );
    EXPECT_EQ(result.exit_code, 0) << result.err;
    ASSERT_EQ(fake_->calls.size(), 1U);
    EXPECT_EQ(
        fake_->calls[0], "RestoreInstance good base MemoryBackend=file Prefetch=false "
                         "LoadTimeoutUSec=60000000 NetworkOverrides=eth0:tap0,eth1:tap1,"
    );
}

TEST_F(BusVerbs, RestoreTellsWhyItFailed) {
    const auto result = run({"restore", "bad", "base"});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(has(result.err, "LoadFailed: no such drive")) << result.err;
    EXPECT_TRUE(has(result.err, "journalctl THAW_INSTANCE=bad")) << result.err;
    EXPECT_FALSE(has(result.err, "\x1b")) << "the daemon's text must not reach the terminal raw";
    const auto json = run({"restore", "bad", "base", "--json=short"});
    EXPECT_EQ(json.exit_code, 1);
    const auto value = nlohmann::json::parse(json.out);
    EXPECT_EQ(value["result"], "failed");
    EXPECT_EQ(value["error_name"], "org.thaw.restore1.Error.LoadFailed");
}

TEST_F(BusVerbs, ExitCodesTellTheKindOfFailure) {
    EXPECT_EQ(run({"restore", "hang", "base"}).exit_code, 6);
    EXPECT_EQ(run({"restore", "denied", "base"}).exit_code, 4);
    EXPECT_EQ(run({"stop", "nobody"}).exit_code, 3);
    EXPECT_EQ(run({"status", "nobody"}).exit_code, 3);
    EXPECT_EQ(run({"cancel", "99"}).exit_code, 3);
    EXPECT_EQ(run({"pause", "nobody"}).exit_code, 3);
    EXPECT_EQ(run({"sessions"}).exit_code, 5) << "no pager on this bus";
}

TEST_F(BusVerbs, CtrlCCancelsTheJob) {
    bool sent = false;
    ProgramOptions options;
    options.meanwhile = [&](pid_t child) {
        if (!fake_->jobs.empty() && !std::exchange(sent, true)) {
            // The reply must have arrived, or the signal ends the program before it waits.
            usleep(200000);
            kill(child, SIGINT);
        }
    };
    const auto result = run({"restore", "slow", "base"}, options);
    EXPECT_EQ(result.exit_code, 7) << result.err;
    EXPECT_TRUE(has(result.err, "Canceling job 7")) << result.err;
    EXPECT_TRUE(has(result.err, "canceled on request")) << result.err;
    ASSERT_FALSE(fake_->calls.empty());
    EXPECT_EQ(fake_->calls.back(), "CancelJob 7");
}

TEST_F(BusVerbs, SurvivesARestartOfTheManager) {
    const auto result = run({"restore", "lost", "base"});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_TRUE(has(result.err, "ManagerRestarted: interrupted")) << result.err;
}

TEST_F(BusVerbs, WaitsForAManagerThatDoesNotAnswer) {
    fake_->silent = 1;
    const auto result = run({"restore", "good", "base"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    ASSERT_FALSE(fake_->jobs.empty());
    EXPECT_EQ(fake_->jobs.begin()->second.silent, 0U) << "the job was never read";
}

TEST_F(BusVerbs, NoBlockOnlyQueues) {
    const auto result = run({"restore", "slow", "base", "--no-block"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, "Queued job 7.\n");
    const auto json = run({"restore", "slow", "base", "--no-block", "--json=short"});
    EXPECT_EQ(nlohmann::json::parse(json.out)["id"], 8);
}

TEST_F(BusVerbs, RestoreFromConfig) {
    const auto folder = daemon_->directory();
    ASSERT_TRUE(write_file_atomic(
        folder + "/good.conf", "[Instance]\nImage=base\nMemoryBackend=uffd\nPrefetch=maybe\n"
                               "LoadTimeoutSec=5\nNetworkOverrides=eth0=tap0 eth1=tap1\n"
    ));
    const std::string at = "--instances-directory=" + folder;
    const auto result = run({"restore", "--from-config", "good", at});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(has(result.err, "good.conf:4:")) << result.err;
    EXPECT_EQ(
        fake_->calls.back(), "RestoreInstance good base MemoryBackend=uffd "
                             "LoadTimeoutUSec=5000000 NetworkOverrides=eth0:tap0,eth1:tap1,"
    );
    ASSERT_TRUE(write_file_atomic(
        folder + "/good.conf", "[Instance]\nImage=base\nRootfs=/srv/base.raw\nRootfsSize=1G\n"
                               "RootfsDiskMax=much\nRootfsDurable=yes\nRootfsDrive=root\n"
    ));
    const auto disk = run({"restore", "--from-config", "good", at});
    EXPECT_TRUE(has(disk.err, "good.conf:5:")) << disk.err;
    EXPECT_EQ(
        fake_->calls.back(),
        "RestoreInstance good base Rootfs= Base=/srv/base.raw, Size=1073741824, Durable=true, "
        "Drive=root,"
    );
    ASSERT_TRUE(
        write_file_atomic(folder + "/baseless.conf", "[Instance]\nImage=base\nRootfsDurable=yes\n")
    );
    const auto baseless = run({"restore", "--from-config", "baseless", at});
    EXPECT_EQ(baseless.exit_code, 1);
    EXPECT_TRUE(has(baseless.err, "without Rootfs=")) << baseless.err;
    EXPECT_EQ(run({"restore", "--from-config", "absent", at}).exit_code, 3);
    ASSERT_TRUE(write_file_atomic(folder + "/empty.conf", "[Instance]\n"));
    const auto empty = run({"restore", "--from-config", "empty", at});
    EXPECT_EQ(empty.exit_code, 1);
    EXPECT_TRUE(has(empty.err, "Image=")) << empty.err;
}

TEST_F(BusVerbs, StopWaitsAndMayIgnore) {
    add_instance("web", "running");
    EXPECT_EQ(run({"stop", "web"}).exit_code, 0);
    EXPECT_EQ(run({"stop", "nobody", "--ignore-missing"}).exit_code, 0);
    EXPECT_EQ(fake_->calls.size(), 2U);
}

TEST_F(BusVerbs, ListsAreTablesOrJson) {
    EXPECT_EQ(run({"list"}).out, "") << "nothing to say off a terminal";
    EXPECT_EQ(run({"list", "--json=short"}).out, "[]\n");
    add_instance("a", "running");
    add_instance("a-b", "restoring");
    EXPECT_EQ(
        run({"list"}).out, "NAME  STATE      IMAGE  UNIT\n"
                           "a     running    base   thaw-firecracker@a.service\n"
                           "a-b   restoring  base   thaw-firecracker@a-b.service\n"
    );
    EXPECT_EQ(run({"list", "--no-legend"}).out.substr(0, 2), "a ");
    const auto rows = nlohmann::json::parse(run({"list", "--json=pretty"}).out);
    ASSERT_EQ(rows.size(), 2U);
    EXPECT_EQ(rows[1]["name"], "a-b");
    EXPECT_EQ(rows[1]["state"], "restoring");
    fake_->jobs[3] = {.id = 3, .instance = "a", .kind = "restore", .state = "loading"};
    EXPECT_EQ(
        run({"jobs"}).out,
        "ID  VM  KIND     STATE    PROGRESS\n 3  a   restore  loading       25%\n"
    );
}

TEST_F(BusVerbs, StatusOfVmAndHost) {
    add_instance("web", "running");
    const auto vm = run({"status", "web"});
    EXPECT_EQ(vm.exit_code, 0) << vm.err;
    EXPECT_TRUE(has(vm.out, "● web - thaw microVM\n")) << vm.out;
    EXPECT_TRUE(has(vm.out, "State: running since 2023-11-14")) << vm.out;
    const auto host = run({"status"});
    EXPECT_EQ(host.exit_code, 0) << host.err;
    EXPECT_TRUE(has(host.out, "thaw-restored 0.0-fake")) << host.out;
    EXPECT_TRUE(has(host.out, "thaw-pagerd is not available")) << host.out;
    EXPECT_EQ(
        nlohmann::json::parse(run({"status", "web", "--json=short"}).out)["instance"]["Name"], "web"
    );
}

TEST_F(BusVerbs, PauseResumePolicyCancel) {
    add_instance("web", "running");
    EXPECT_EQ(run({"pause", "web"}).exit_code, 0);
    EXPECT_EQ(fake_->instances["web"].state, "paused");
    EXPECT_EQ(run({"resume", "web"}).exit_code, 0);
    EXPECT_EQ(fake_->instances["web"].state, "running");
    EXPECT_EQ(
        run({"policy"}).out, "KEY            VALUE\nMemoryBackend  auto\nPrefetch       yes\n"
    );
    EXPECT_EQ(run({"policy", "MemoryBackend", "file"}).exit_code, 0);
    EXPECT_EQ(fake_->calls.back(), "SetPolicy MemoryBackend s");
    EXPECT_EQ(run({"policy", "Prefetch", "off"}).exit_code, 0);
    EXPECT_EQ(fake_->calls.back(), "SetPolicy Prefetch b");
    EXPECT_EQ(run({"restore", "slow", "base", "--no-block"}).exit_code, 0);
    EXPECT_EQ(run({"cancel", "7"}).exit_code, 0);
}

TEST_F(BusVerbs, OnATerminal) {
    ProgramOptions terminal;
    terminal.terminal = true;
    terminal.environment = {"TERM=xterm", "SYSTEMD_PAGER=cat"};
    EXPECT_EQ(run({"list"}, terminal).out, "No VMs.\r\n");
    add_instance("web", "running");
    const auto list = run({"list"}, terminal);
    EXPECT_TRUE(has(list.out, "\x1b[0;32mrunning\x1b[0m")) << list.out;
    EXPECT_TRUE(has(list.out, "1 VMs listed.")) << list.out;
    const auto restore = run({"restore", "good", "base"}, terminal);
    EXPECT_TRUE(
        has(restore.out, "[###############---------------]  50% Restoring good: loading memory")
    ) << restore.out;
    terminal.environment.emplace_back("NO_COLOR=1");
    EXPECT_FALSE(has(run({"list"}, terminal).out, "\x1b"));
}

TEST_F(BusVerbs, PagerGetsTheText) {
    add_instance("web", "running");
    ProgramOptions terminal;
    terminal.terminal = true;
    terminal.environment = {"TERM=dumb", "SYSTEMD_PAGER=tr a-z A-Z"};
    EXPECT_TRUE(has(run({"list"}, terminal).out, "WEB"));
    EXPECT_TRUE(has(run({"list", "--no-pager"}, terminal).out, "web"));
    terminal.environment = {"TERM=dumb", "SYSTEMD_PAGER=no-such-pager"};
    EXPECT_TRUE(has(run({"list"}, terminal).out, "web"));
}

TEST_F(BusVerbs, DoctorFindsTheManagerAndMissesSystemd) {
    const auto result = run({"doctor", "--json=short"});
    EXPECT_EQ(result.exit_code, 1);
    std::map<std::string, std::string> verdicts;
    for (const auto& finding : nlohmann::json::parse(result.out)) {
        verdicts[finding["check"]] = finding["verdict"];
        EXPECT_TRUE(finding["verdict"] != "failed" || !finding["remedy"].get<std::string>().empty())
            << finding;
    }
    EXPECT_EQ(verdicts["bus"], "ok");
    EXPECT_EQ(verdicts["bus.org.thaw.restore1"], "ok");
    EXPECT_EQ(verdicts["bus.org.thaw.pager1"], "failed");
    EXPECT_EQ(verdicts["systemd"], "failed");
}

TEST_F(BusVerbs, NoManagerNoBus) {
    fake_.reset();
    connection_.reset();
    const auto gone = run({"list"});
    EXPECT_EQ(gone.exit_code, 5);
    EXPECT_TRUE(has(gone.err, "systemctl status thaw-restored.service")) << gone.err;
    ProgramOptions silent;
    silent.silent_bus = true;
    const auto none = run({"restore", "good", "base"}, silent);
    EXPECT_EQ(none.exit_code, 5);
    EXPECT_TRUE(has(none.err, "connect to the system bus")) << none.err;
}

} // namespace
} // namespace thaw::ctl
