// SPDX-License-Identifier: MIT
// A share's life: its budget, the ways its daemon ends, its VM, a restart of the supervisor.
#include "core/file.hpp"
#include "core/names.hpp"
#include "fixture.hpp"

#include <signal.h>

#include <algorithm>

namespace thaw::sharesd {
namespace {

using Words = std::vector<std::string>;

class LifeTest : public SharesdTest {
protected:
    void added(const Options& options = {}) {
        start_daemon();
        const auto reply = add("tag", options);
        ASSERT_EQ(reply.error, "") << reply.text;
    }
    void hold(std::uint32_t descriptors) { processes_.at(service())->hold(descriptors); }
};

TEST_F(LifeTest, FilesSayWhatIsExported) {
    added();
    const auto check = [this](const std::string& path, const std::string& interface) {
        auto reply = call(path, "org.freedesktop.DBus.Introspectable", "Introspect");
        const char* xml = nullptr;
        ASSERT_TRUE(reply.message && reply.message.read("s", &xml));
        const std::string exported = xml;
        const auto file =
            read_file(fmt::format("{}/dbus/interfaces/{}.xml", SOURCE_ROOT, interface)).value();
        // Every member that the file names is exported with that line, and the other way round.
        const auto members = [&](const std::string& text) {
            std::vector<std::string> lines;
            auto begin = text.find(fmt::format("<interface name=\"{}\">", interface));
            const auto end = text.find("</interface>", begin);
            while (begin < end) {
                const auto stop = text.find('\n', begin);
                const auto line = std::string(trim(text.substr(begin, stop - begin)));
                if (line.starts_with("<property ") || line.starts_with("<method ") ||
                    line.starts_with("<signal ") || line.starts_with("<arg "))
                    lines.push_back(line);
                begin = stop + 1;
            }
            std::ranges::sort(lines);
            return lines;
        };
        EXPECT_EQ(members(exported), members(file));
    };
    check(shares1::kPath, shares1::kManagerInterface);
    check(encode_object_path(shares1::kSharePrefix, "vm:tag"), shares1::kShareInterface);
}

TEST_F(LifeTest, EachEndHasItsNameAndWhatFollows) {
    struct Case {
        std::string result;
        int code;
        int status;
        std::string word;
        std::string error;    // "": a normal end
        bool stopped = false; // by systemd
    };
    const std::string prefix = "org.thaw.shares1.Error.";
    added();
    for (const auto& [result, code, status, word, error, stopped] :
         {Case{"success", CLD_EXITED, 0, "peer-gone", ""},
          Case{"success", CLD_EXITED, 1, "stopped", "", true},
          Case{"signal", CLD_KILLED, SIGKILL, "stopped", "", true},
          // Of its dialect only the outer process is left then.
          Case{"success", CLD_EXITED, 1, "signal", "DaemonKilled"},
          Case{"signal", CLD_KILLED, SIGSYS, "seccomp", "SeccompKill"},
          Case{"exit-code", CLD_EXITED, 225, "seccomp", "SeccompKill"},
          Case{"oom-kill", CLD_KILLED, SIGKILL, "oom-kill", "OutOfMemory"},
          Case{"signal", CLD_KILLED, SIGKILL, "signal", "DaemonKilled"},
          Case{"exit-code", CLD_EXITED, 101, "start-failed", "StartFailed"}}) {
        SCOPED_TRACE(fmt::format("{} {} {}", word, result, status));
        signals_.clear();
        systemd_->unit(service())->left_active = stopped ? 1000 : 3000;
        systemd_->unit(service())->main_ended = 2000;
        end_daemon(result, code, status);
        if (error.empty()) {
            EXPECT_TRUE(wait_text("State", "UnknownObject"));
            EXPECT_EQ(signals_, (Words{"ShareRemoved tag " + word}));
        } else {
            EXPECT_TRUE(wait_text("State", "failed"));
            EXPECT_EQ(text("Result"), word);
            EXPECT_EQ(text("ErrorName"), prefix + error);
            EXPECT_EQ(signals_, (Words{"Lost " + word + " " + prefix + error}));
            EXPECT_EQ(remove().error, "");
        }
        expect_clean();
        ASSERT_EQ(add().error, "");
    }
}

TEST_F(LifeTest, AReconnectableOneIsRestartedUpToTheLimit) {
    added([](BusMessage& m) { return m.append("{sv}", "Reconnectable", "b", 1); });
    for (unsigned restarts = 1; restarts <= 2; ++restarts) {
        end_daemon("signal", CLD_KILLED, SIGSEGV);
        EXPECT_TRUE(until([&] { return processes_.contains(service()); }));
        EXPECT_TRUE(wait_text("State", "listening"));
    }
    end_daemon("signal", CLD_KILLED, SIGSEGV);
    EXPECT_TRUE(wait_text("State", "failed"));
    EXPECT_EQ(text("ErrorName"), shares1::error::kRestartLimit);
    EXPECT_EQ(signals_.size(), 1U);
}

TEST_F(LifeTest, TheVmsEndCountsOnlyAfterItWasSeenAlive) {
    added([](BusMessage& m) { return m.append("{sv}", "Unit", "s", "vm.service"); });
    fakes::run_for(*loop_, 200 * kUsecPerMsec);
    EXPECT_EQ(text("State"), "listening");
    systemd_->change_unit("vm.service", [](fakes::FakeUnit& u) { u.active_state = "active"; });
    fakes::run_for(*loop_, 100 * kUsecPerMsec);
    systemd_->change_unit("vm.service", [](fakes::FakeUnit& u) { u.active_state = "inactive"; });
    EXPECT_TRUE(wait_text("State", "UnknownObject"));
    EXPECT_EQ(signals_, (Words{"ShareRemoved tag vm-ended"}));
    expect_clean();
}

TEST_F(LifeTest, ARestartFindsTheShareAndWhatHappenedMeanwhile) {
    added();
    hold(212);
    kill_daemon();
    start_daemon();
    EXPECT_TRUE(wait_text("State", "listening"));
    EXPECT_TRUE(wait_text("DescriptorLevel", "high"));
    kill_daemon();
    end_daemon("signal", CLD_KILLED, SIGKILL);
    start_daemon();
    EXPECT_TRUE(wait_text("State", "failed"));
    EXPECT_EQ(text("ErrorName"), shares1::error::kDaemonKilled);
    // And stays so.
    kill_daemon();
    start_daemon();
    EXPECT_TRUE(wait_text("State", "failed"));
    EXPECT_EQ(remove().error, "");
    expect_clean();
}

TEST_F(LifeTest, ADaemonThatCannotBeStoppedStaysOnTheBooks) {
    added();
    // Systemd says that it stopped, and that it still runs; killing does not help either.
    systemd_->plan_stop(service(), {.job_result = "failed", .active_state = "active"});
    systemd_->set_kill_error("org.freedesktop.systemd1.NoSuchProcess");
    EXPECT_EQ(remove().error, "StopFailed");
    EXPECT_EQ(text("State"), "failed");
    EXPECT_EQ(text("ErrorName"), shares1::error::kStopFailed);
    EXPECT_EQ(remove().error, "");
    expect_clean();
}

TEST_F(LifeTest, ASystemdThatDoesNotAnswerEndsNoShare) {
    added();
    kill_daemon();
    systemd_->vanish();
    start_daemon();
    // There from the first moment on, as it was recorded.
    EXPECT_EQ(text("State"), "listening");
    fakes::run_for(*loop_, 1500 * kUsecPerMsec);
    EXPECT_EQ(text("State"), "listening");
    // And not known well enough to be changed.
    const auto raised =
        call_share("RaiseLimit", [](BusMessage& m) { return m.append("t", kLimit * 2); });
    EXPECT_EQ(raised.error, "NotRunning");
    ASSERT_TRUE(systemd_->come_back(private_bus_->connect(*loop_).value()));
    hold(212);
    EXPECT_TRUE(wait_text("DescriptorLevel", "high"));
    EXPECT_EQ(text("State"), "listening");
    EXPECT_TRUE(signals_.empty()) << signals_.front();
}

TEST_F(LifeTest, ARemovalThatWasCutOffIsEndedByTheNextSupervisor) {
    added([](BusMessage& m) { return m.append("{sv}", "Reconnectable", "b", 1); });
    systemd_->plan_stop(service(), {.never_finish = true});
    auto message = bus_->new_call(
        shares1::kBusName, shares1::kPath, shares1::kManagerInterface, "RemoveShare"
    );
    ASSERT_TRUE(message && message->append("sst", "vm", "tag", std::uint64_t{0}));
    const auto pending = bus_->call(std::move(*message), [](const Result<BusMessage>&) {});
    ASSERT_TRUE(until([this] { return systemd_->has_job(service()); }));
    kill_daemon();
    end_daemon("success", CLD_EXITED, 0); // as if its client had gone
    systemd_->finish_job(service(), "done");
    start_daemon();
    expect_clean();
    EXPECT_EQ(text("State"), "UnknownObject");
}

} // namespace
} // namespace thaw::sharesd
