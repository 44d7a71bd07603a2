// SPDX-License-Identifier: MIT
#include "fakes/daemon_launch.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

namespace thaw::fakes {

namespace {

constexpr int kFirstListenFd = 3;
constexpr int kAside = 200; // above whatever a daemon is handed

// Out of the way first, then to where systemd would have put them.
void place_descriptors(const DaemonLaunch& launch) {
    std::vector<int> copies;
    copies.reserve(launch.descriptors.size());
    for (const auto& [name, fd] : launch.descriptors)
        copies.push_back(fcntl(fd, F_DUPFD, kAside));
    for (std::size_t i = 0; i < copies.size(); ++i)
        dup2(copies[i], kFirstListenFd + static_cast<int>(i));
    close_range(kFirstListenFd + static_cast<unsigned>(copies.size()), ~0U, 0);
}

void set_environment(const DaemonLaunch& launch) {
    for (const auto& [key, value] : launch.environment)
        setenv(key.c_str(), value.c_str(), 1);
    if (launch.descriptors.empty()) return;
    std::string names;
    for (const auto& [name, fd] : launch.descriptors)
        names += (names.empty() ? "" : ":") + name;
    setenv("LISTEN_FDS", std::to_string(launch.descriptors.size()).c_str(), 1);
    setenv("LISTEN_FDNAMES", names.c_str(), 1);
    setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
}

} // namespace

pid_t launch_daemon(const DaemonLaunch& launch) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (launch.log >= 0) dup2(launch.log, STDERR_FILENO);
    place_descriptors(launch);
    set_environment(launch);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    std::vector<char*> arguments{const_cast<char*>(launch.program.c_str())};
    for (const auto& argument : launch.arguments)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    execv(launch.program.c_str(), arguments.data());
    _exit(127);
}

} // namespace thaw::fakes
