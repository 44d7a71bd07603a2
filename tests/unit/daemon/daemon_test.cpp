// SPDX-License-Identifier: MIT
#include "daemon/daemon.hpp"
#include "fakes/bus_fixture.hpp"
#include "notify_socket.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <map>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

constexpr const char* kName = "org.thaw.tiny1";

// The tiny daemon as a process, its output in a pipe.
class Daemon : public BusTest {
public:
    void TearDown() override {
        if (pid <= 0) return;
        kill(pid, SIGKILL);
        waitpid(pid, nullptr, 0);
    }

    void run(const std::string& mode, std::vector<std::string> arguments = {}) {
        int ends[2];
        ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
        output = Fd(ends[0]);
        const Fd write_end(ends[1]);
        pid = fork();
        if (pid == 0) become_daemon(mode, arguments, write_end.get());
        ASSERT_GT(pid, 0);
    }
    int wait_for_exit() {
        int status = -1;
        waitpid(pid, &status, 0);
        pid = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    std::string text() {
        std::string all;
        char buffer[512];
        for (ssize_t n = 0; (n = ::read(output.get(), buffer, sizeof(buffer))) > 0;)
            all.append(buffer, static_cast<std::size_t>(n));
        return all;
    }
    // Waits for a message with that line.
    std::optional<NotifySocket::Message> told(const std::string& line) {
        while (auto message = manager.receive())
            if (message->has(line)) return message;
        return std::nullopt;
    }
    bool name_is_owned() {
        auto connection = connect();
        std::optional<bool> owned;
        auto slot = connection.watch_name(kName, [&](bool now) { owned = now; });
        fakes::run_until(*loop, [&] { return owned.has_value(); });
        return owned.value_or(false);
    }

    NotifySocket manager;
    std::map<std::string, std::string> environment;
    pid_t pid = -1;
    Fd output;

private:
    [[noreturn]] void
    become_daemon(const std::string& mode, const std::vector<std::string>& arguments, int out) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        setenv("TINY_DAEMON", mode.c_str(), 1);
        setenv("DBUS_SYSTEM_BUS_ADDRESS", daemon->address().c_str(), 1);
        for (const auto& [key, value] : environment)
            setenv(key.c_str(), value.c_str(), 1);
        if (environment.contains("LISTEN_FDS")) {
            dup2(STDIN_FILENO, 3);
            setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
        }
        std::vector<char*> argv;
        std::string program = TINY_DAEMON;
        auto copies = arguments;
        argv.push_back(program.data());
        for (auto& argument : copies)
            argv.push_back(argument.data());
        argv.push_back(nullptr);
        execv(TINY_DAEMON, argv.data());
        _exit(127);
    }
};

TEST_F(Daemon, ReadyOnceTheNameIsOwnedThenStopsOnSigterm) {
    run("");
    auto ready = told("READY=1");
    ASSERT_TRUE(ready);
    EXPECT_TRUE(ready->has("STATUS=Tiny."));
    EXPECT_TRUE(name_is_owned());
    kill(pid, SIGTERM);
    EXPECT_TRUE(told("STOPPING=1"));
    EXPECT_EQ(wait_for_exit(), 0);
    EXPECT_FALSE(name_is_owned());
}

TEST_F(Daemon, SigintStopsToo) {
    run("");
    ASSERT_TRUE(told("READY=1"));
    kill(pid, SIGINT);
    EXPECT_EQ(wait_for_exit(), 0);
}

TEST_F(Daemon, StopWaitsForTheService) {
    run("slow-stop");
    ASSERT_TRUE(told("READY=1"));
    const auto before = now_monotonic();
    kill(pid, SIGTERM);
    EXPECT_TRUE(told("STOPPING=1"));
    kill(pid, SIGTERM); // a second one changes nothing
    EXPECT_EQ(wait_for_exit(), 0);
    EXPECT_GE(now_monotonic() - before, 90 * kUsecPerMsec);
    EXPECT_FALSE(manager.receive(0));
}

TEST_F(Daemon, DescriptorsFromTheManagerReachTheService) {
    environment = {{"LISTEN_FDS", "1"}, {"LISTEN_FDNAMES", "control"}};
    run("");
    auto ready = told("READY=1");
    ASSERT_TRUE(ready);
    EXPECT_TRUE(ready->has("STATUS=Tiny. control"));
}

TEST_F(Daemon, StoresDescriptorsAndPassesABarrier) {
    run("store");
    auto store = told("FDSTORE=1");
    ASSERT_TRUE(store);
    EXPECT_TRUE(store->has("FDNAME=tiny.input"));
    EXPECT_EQ(store->fds.size(), 1U);
    auto barrier = told("BARRIER=1");
    ASSERT_TRUE(barrier);
    ASSERT_EQ(barrier->fds.size(), 1U);
    EXPECT_FALSE(manager.receive(50)) << "passed before the manager let go";
    barrier->fds.clear();
    EXPECT_TRUE(told("STATUS=barrier passed"));
}

TEST_F(Daemon, FailureOfTheServiceIsToldAndLeavesNoName) {
    for (const auto& [mode, code] :
         std::map<std::string, int>{{"fail-create", ENOSPC}, {"fail-start", EADDRINUSE}}) {
        run(mode);
        auto failed = told(fmt::format("ERRNO={}", code));
        ASSERT_TRUE(failed) << mode;
        EXPECT_TRUE(failed->has("STATUS=asked to fail"));
        EXPECT_EQ(wait_for_exit(), 1);
        EXPECT_NE(text().find("asked to fail"), std::string::npos);
    }
    EXPECT_FALSE(name_is_owned());
}

TEST_F(Daemon, TakenNameEndsIt) {
    auto other = daemon->connect(*loop);
    ASSERT_TRUE(other);
    bool owned = false;
    auto slot = other->request_name(kName, [&](Result<> done) { owned = done.has_value(); });
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return owned; }));
    run("");
    EXPECT_TRUE(told(fmt::format("ERRNO={}", EEXIST)));
    EXPECT_EQ(wait_for_exit(), 1);
}

TEST_F(Daemon, LossOfTheBusEndsIt) {
    run("");
    ASSERT_TRUE(told("READY=1"));
    daemon->kill();
    EXPECT_TRUE(told(fmt::format("ERRNO={}", ECONNRESET)));
    EXPECT_EQ(wait_for_exit(), 1);
}

TEST_F(Daemon, WithoutABusItFails) {
    daemon->kill();
    run("");
    EXPECT_EQ(wait_for_exit(), 1);
    EXPECT_NE(text().find("tiny-daemon failed"), std::string::npos);
}

TEST_F(Daemon, WatchdogIsFedWhileTheLoopTurns) {
    environment = {{"WATCHDOG_USEC", "200000"}};
    run("");
    EXPECT_TRUE(told("READY=1"));
    EXPECT_TRUE(told("WATCHDOG=1"));
    EXPECT_TRUE(told("WATCHDOG=1"));
}

TEST_F(Daemon, WatchdogIsNotFedWhileTheLoopHangs) {
    environment = {{"WATCHDOG_USEC", "200000"}};
    run("hang");
    ASSERT_TRUE(told("READY=1"));
    while (manager.receive(0)) // what was sent before
        ;
    EXPECT_FALSE(manager.receive(400));
}

TEST_F(Daemon, LogLevelIsSetByOptionAndByBus) {
    run("", {"--log-level=debug"});
    ASSERT_TRUE(told("READY=1"));
    auto client = daemon->connect(*loop);
    ASSERT_TRUE(client);
    auto message = client->new_call(
        kName, "/org/freedesktop/LogControl1", "org.freedesktop.DBus.Properties", "Get"
    );
    ASSERT_TRUE(message && message->append("ss", "org.freedesktop.LogControl1", "LogLevel"));
    std::string level;
    auto slot = client->call(std::move(message), [&](Result<BusMessage> reply) {
        const char* word = nullptr;
        level = reply && reply->read("v", "s", &word) ? word : "error";
    });
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return !level.empty(); }));
    EXPECT_EQ(level, "debug");
}

TEST_F(Daemon, HelpAndVersion) {
    run("", {"--help"});
    EXPECT_EQ(wait_for_exit(), 0);
    const auto help = text();
    for (const char* part : {"tiny-daemon [OPTIONS...]", "Does next to nothing.", "--log-level"})
        EXPECT_NE(help.find(part), std::string::npos) << part;
    run("", {"--version"});
    EXPECT_EQ(wait_for_exit(), 0);
    EXPECT_TRUE(text().starts_with("tiny-daemon "));
    EXPECT_FALSE(manager.receive(0)) << "neither starts anything";
}

TEST_F(Daemon, BadCommandLineIsRefused) {
    for (const char* argument : {"--nonsense", "extra", "--log-level=loud", "--log-level"}) {
        run("", {argument});
        EXPECT_EQ(wait_for_exit(), 2) << argument;
        EXPECT_NE(text(), "") << argument;
    }
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
