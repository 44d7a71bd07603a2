// SPDX-License-Identifier: MIT

#include "polkit_agent.hpp"

#include "core/fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace thaw::ctl {

namespace {

constexpr const char* kProgram = "/usr/bin/pkttyagent";
// Registering is one call to polkit, which may have to be started first.
constexpr int kStartLimitMs = 10000;
constexpr int kAgentNotRun = 127;

[[noreturn]] void run_agent(int notify) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    const int inherited = dup(notify); // without close-on-exec
    const auto number = std::to_string(inherited);
    // --fallback: a desktop's agent, where there is one, stays the one that asks.
    execl(
        kProgram, kProgram, "--notify-fd", number.c_str(), "--fallback", static_cast<char*>(nullptr)
    );
    _exit(kAgentNotRun);
}

} // namespace

Result<PolkitAgent> PolkitAgent::start() {
    if (isatty(STDIN_FILENO) == 0) return fail(ENOTTY, "there is no terminal to ask on");
    if (access(kProgram, X_OK) != 0) return fail_errno(errno, "{}", kProgram);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return fail_errno(errno, "make pipe");
    const Fd read_end(ends[0]);
    Fd write_end(ends[1]);
    const pid_t pid = fork();
    if (pid < 0) return fail_errno(errno, "fork");
    if (pid == 0) run_agent(write_end.get());
    PolkitAgent agent(pid);
    write_end.reset();
    // It closes its end when it is registered, and also when it dies.
    pollfd wait{.fd = read_end.get(), .events = POLLIN, .revents = 0};
    int r = 0;
    do
        r = poll(&wait, 1, kStartLimitMs);
    while (r < 0 && errno == EINTR);
    if (r != 1 || waitpid(pid, nullptr, WNOHANG) != 0) return fail(EIO, "{} gave up", kProgram);
    return agent;
}

PolkitAgent::PolkitAgent(PolkitAgent&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

PolkitAgent::~PolkitAgent() {
    if (pid_ <= 0) return;
    // Stopped by job control it would not hear the first signal. It restores the terminal's echo.
    kill(pid_, SIGTERM);
    kill(pid_, SIGCONT);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

} // namespace thaw::ctl
