// SPDX-License-Identifier: MIT
#include "worker_process.hpp"

#include "core/pidfd.hpp"
#include "core/scm.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"

#include <spawn.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace thaw::pagerd {

namespace {

#ifndef P_PIDFD
constexpr auto kPidfdIdType = static_cast<idtype_t>(3); // glibc before 2.36 has no name for it
#else
constexpr auto kPidfdIdType = P_PIDFD;
#endif

constexpr int kWorkerControlFd = 3;

// What systemd told the broker is not for its children.
bool is_inherited(std::string_view variable) {
    constexpr std::array kOurs{"NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "FDSTORE=", "MAINPID="};
    return std::none_of(kOurs.begin(), kOurs.end(), [&](const char* prefix) {
        return variable.starts_with(prefix);
    });
}

// posix_spawn() is vfork-like in glibc: no copy of page tables, and exec errors come back.
Result<pid_t>
spawn_program(const std::string& program, const std::string& control_path, int control) {
    std::vector<char*> environment;
    for (char** variable = environ; *variable != nullptr; ++variable)
        if (is_inherited(*variable)) environment.push_back(*variable);
    environment.push_back(nullptr);
    std::string name = "thaw-pager-worker";
    std::string mode = "--session";
    std::string path = "--control=" + control_path;
    std::array<char*, 4> arguments{name.data(), mode.data(), path.data(), nullptr};

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    // Also clears close-on-exec, even when the descriptor has that number already.
    posix_spawn_file_actions_adddup2(&actions, control, kWorkerControlFd);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t pid = 0;
    const int r = ::posix_spawn(
        &pid, program.c_str(), &actions, &attributes, arguments.data(), environment.data()
    );
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (r != 0) return fail_errno(r, "start {}", program);
    return pid;
}

} // namespace

WorkerProcess::WorkerProcess(EventLoop& loop, Fd pidfd, pid_t pid, bool is_child, Events events)
    : loop_(loop), pidfd_(std::move(pidfd)), pid_(pid), is_child_(is_child),
      events_(std::move(events)) {}

Result<std::unique_ptr<WorkerProcess>> WorkerProcess::spawn(
    EventLoop& loop, const std::string& program, const std::string& control_path, Events events
) {
    THAW_TRY(auto pair, make_seqpacket_pair(true));
    THAW_TRY(const auto pid, spawn_program(program, control_path, pair.second.get()));
    // A child that was not reaped keeps its pid, so this cannot open another process.
    auto pidfd = pidfd_open(pid);
    if (!pidfd) {
        ::kill(pid, SIGKILL);
        while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
        }
        return std::unexpected(std::move(pidfd).error());
    }
    std::unique_ptr<WorkerProcess> worker(
        new WorkerProcess(loop, std::move(*pidfd), pid, true, std::move(events))
    );
    auto ready = worker->watch();
    if (ready) ready = worker->attach_channel(std::move(pair.first));
    if (!ready) {
        worker->kill();
        while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
        }
        return std::unexpected(std::move(ready).error());
    }
    return worker;
}

Result<std::unique_ptr<WorkerProcess>>
WorkerProcess::adopt(EventLoop& loop, Fd pidfd, pid_t pid, Fd channel, Events events) {
    std::unique_ptr<WorkerProcess> worker(
        new WorkerProcess(loop, std::move(pidfd), pid, false, std::move(events))
    );
    THAW_CHECK(worker->watch());
    if (channel) THAW_CHECK(worker->attach_channel(std::move(channel)));
    return worker;
}

Result<> WorkerProcess::watch() {
    THAW_TRY(
        exit_source_, loop_.add_process_exit(
                          pidfd_.get(), [this] { on_exit(); }, "worker-exit", priority::kVital
                      )
    );
    return {};
}

Result<> WorkerProcess::attach_channel(Fd channel) {
    THAW_TRY(
        auto source, loop_.add_io(
                         channel.get(), EPOLLIN, [this](std::uint32_t) { on_channel(); },
                         "worker-control", priority::kVital
                     )
    );
    // The old source goes before the descriptor it watches.
    channel_source_ = std::move(source);
    channel_ = std::move(channel);
    return {};
}

Result<> WorkerProcess::send(const protocol::EncodedMessage& message) {
    if (!channel_) return fail(EPIPE, "the worker has no control connection");
    return protocol::send_control(channel_.get(), message);
}

void WorkerProcess::kill() {
    // ESRCH: it is gone, which is what was wanted.
    if (auto killed = pidfd_send_signal(pidfd_.get(), SIGKILL); !killed)
        log_debug("worker {}: {}", pid_, killed.error().message());
}

void WorkerProcess::on_channel() {
    auto message = protocol::receive_control(channel_.get());
    if (message) {
        events_.message(std::move(*message));
        return;
    }
    if (message.error().code() == EAGAIN) return;
    // A worker without a connection serves on and dials in again; a dead one is seen by its pidfd.
    if (message.error().code() != ECONNRESET)
        log_warning("worker {}: {}", pid_, message.error().message());
    channel_source_.reset();
    channel_.reset();
}

std::string WorkerProcess::reap() {
    if (!is_child_) return "exited";
    siginfo_t info{};
    int r = -1;
    do
        r = ::waitid(kPidfdIdType, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
    while (r < 0 && errno == EINTR);
    if (r < 0 || info.si_pid == 0) return "exited";
    if (info.si_code == CLD_EXITED) return fmt::format("exited with status {}", info.si_status);
    return fmt::format("was killed by signal {}", info.si_status);
}

void WorkerProcess::on_exit() {
    // What it said last may still be in the socket, e.g. why it failed.
    while (channel_) {
        auto message = protocol::receive_control(channel_.get());
        if (!message) break;
        events_.message(std::move(*message));
    }
    channel_source_.reset();
    channel_.reset();
    // The handler may destroy us: nothing after this line touches members.
    const auto exited = std::exchange(events_.exited, nullptr);
    exited(reap());
}

} // namespace thaw::pagerd
