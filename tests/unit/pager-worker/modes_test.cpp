// SPDX-License-Identifier: MIT
// The program around the fault path: its modes, its options, what it tells its manager.

#include "core/scm.hpp"
#include "harness.hpp"
#include "temporary_directory.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>
#include <vector>

namespace thaw::test {
namespace {

struct Outcome {
    int code = -1;
    std::string output;
};

pid_t spawn(const std::vector<std::string>& arguments, int output, int channel = -1) {
    std::vector<char*> argv{const_cast<char*>(THAW_WORKER_PATH)};
    for (const auto& argument : arguments)
        argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    if (channel >= 0)
        posix_spawn_file_actions_adddup2(&actions, channel, 3);
    else
        posix_spawn_file_actions_addclose(&actions, 3); // whoever started us may have had one
    pid_t pid = -1;
    EXPECT_EQ(::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

Outcome run(const std::vector<std::string>& arguments) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const Fd reader(ends[0]);
    Fd writer(ends[1]);
    const pid_t pid = spawn(arguments, writer.get());
    writer.reset();
    Outcome outcome;
    std::array<char, 4096> part;
    for (ssize_t got; (got = ::read(reader.get(), part.data(), part.size())) > 0;)
        outcome.output.append(part.data(), static_cast<std::size_t>(got));
    int status = 0;
    ::waitpid(pid, &status, 0);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return outcome;
}

TEST(Modes, HelpAndVersion) {
    const Outcome help = run({"--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_NE(help.output.find("--session"), std::string::npos);
    const Outcome version = run({"--version"});
    EXPECT_EQ(version.code, 0);
    EXPECT_EQ(version.output.rfind("thaw ", 0), 0U);
}

TEST(Modes, WrongUse) {
    EXPECT_EQ(run({}).code, 2);
    EXPECT_EQ(run({"--nonsense"}).code, 2);
    EXPECT_EQ(run({"--session", "--engine=magic"}).code, 2);
    EXPECT_EQ(run({"--session", "extra"}).code, 2);
    EXPECT_EQ(run({"--session"}).code, 2); // descriptor 3 is not there
}

TEST(Modes, PauseTellsItsManagerAndEndsOnSigterm) {
    const TemporaryDirectory directory;
    const std::string path = directory / "notify";
    const Fd notify(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(notify.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const pid_t pid = spawn({"--pause"}, null.get());
    ::unsetenv("NOTIFY_SOCKET");
    std::array<char, 256> text{};
    pollfd readable{.fd = notify.get(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&readable, 1, 5000), 1);
    ASSERT_GT(::recv(notify.get(), text.data(), text.size() - 1, 0), 0);
    EXPECT_EQ(std::string(text.data()).rfind("READY=1\n", 0), 0U);
    ::kill(pid, SIGTERM);
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Modes, ABrokerThatGoesAwayBeforeStartLeavesNothing) {
    auto pair = make_seqpacket_pair(false);
    ASSERT_TRUE(pair);
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const pid_t pid = spawn({"--session"}, null.get(), pair->second.get());
    pair->second.reset();
    pair->first.reset();
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Modes, AWrongFirstMessageEndsIt) {
    auto pair = make_seqpacket_pair(false);
    ASSERT_TRUE(pair);
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const pid_t pid = spawn({"--session"}, null.get(), pair->second.get());
    pair->second.reset();
    ASSERT_TRUE(protocol::send_control(
        pair->first.get(), protocol::encode(protocol::ControlType::VmmExited)
    ));
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

} // namespace
} // namespace thaw::test
