// SPDX-License-Identifier: MIT

#include "program.hpp"

#include "core/fd.hpp"
#include "core/file.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

namespace thaw::ctl::testing {

namespace {

constexpr Microseconds kSlice = 5 * kUsecPerMsec;
constexpr Microseconds kPatience = 30 * kUsecPerSec;

struct Ends {
    Fd out_read;
    Fd out_write;
    Fd err_read;
    Fd err_write;
};

Ends make_ends(bool terminal) {
    Ends ends;
    int fds[2];
    if (terminal) {
        winsize size{.ws_row = 24, .ws_col = 100};
        EXPECT_EQ(openpty(&fds[0], &fds[1], nullptr, nullptr, &size), 0);
        ends.out_read.reset(fds[0]);
        ends.out_write.reset(fds[1]);
        ends.err_write = std::move(*ends.out_write.duplicate());
    } else {
        EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
        ends.out_read.reset(fds[0]);
        ends.out_write.reset(fds[1]);
        EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
        ends.err_read.reset(fds[0]);
        ends.err_write.reset(fds[1]);
    }
    for (const auto* fd : {&ends.out_read, &ends.err_read})
        EXPECT_TRUE(!*fd || set_nonblocking(fd->get(), true));
    return ends;
}

void drain(const Fd& fd, std::string& into) {
    if (!fd) return;
    std::array<char, 4096> buffer{};
    for (;;) {
        const auto n = read(fd.get(), buffer.data(), buffer.size());
        if (n <= 0) return;
        into.append(buffer.data(), static_cast<std::size_t>(n));
    }
}

[[noreturn]] void become_thawctl(
    const Ends& ends, const std::vector<std::string>& arguments, const ProgramOptions& options
) {
    setsid();
    dup2(ends.out_write.get(), STDOUT_FILENO);
    dup2(ends.err_write.get(), STDERR_FILENO);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    std::vector<std::string> environment = options.environment;
    environment.emplace_back("PATH=/usr/bin:/bin");
    const char* bus = options.silent_bus ? nullptr : std::getenv("DBUS_SYSTEM_BUS_ADDRESS");
    environment.push_back(
        std::string("DBUS_SYSTEM_BUS_ADDRESS=") + (bus != nullptr ? bus : "unix:path=/nonexistent")
    );
    // Sanitizer settings of the test run are the child's too.
    for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"})
        if (const char* value = std::getenv(name))
            environment.push_back(fmt::format("{}={}", name, value));
    std::vector<std::string> words{"thawctl"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    const auto pointers = [](std::vector<std::string>& list) {
        std::vector<char*> out;
        for (auto& text : list)
            out.push_back(text.data());
        out.push_back(nullptr);
        return out;
    };
    execve(THAWCTL_PROGRAM, pointers(words).data(), pointers(environment).data());
    _exit(127);
}

} // namespace

ProgramResult run_thawctl(
    EventLoop* loop, const std::vector<std::string>& arguments, const ProgramOptions& options
) {
    auto ends = make_ends(options.terminal);
    const pid_t child = fork();
    EXPECT_GE(child, 0);
    if (child == 0) become_thawctl(ends, arguments, options);
    ends.out_write.reset();
    ends.err_write.reset();
    ProgramResult result;
    const auto start = now_monotonic();
    int status = 0;
    for (bool killed = false; waitpid(child, &status, WNOHANG) == 0;) {
        if (loop == nullptr) usleep(kSlice);
        EXPECT_TRUE(loop == nullptr || loop->run_once(kSlice));
        drain(ends.out_read, result.out);
        drain(ends.err_read, result.err);
        if (options.meanwhile) options.meanwhile(child);
        if (!killed && now_monotonic() - start > kPatience) {
            ADD_FAILURE() << "thawctl hangs";
            kill(child, SIGKILL);
            killed = true;
        }
    }
    drain(ends.out_read, result.out);
    drain(ends.err_read, result.err);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return result;
}

} // namespace thaw::ctl::testing
