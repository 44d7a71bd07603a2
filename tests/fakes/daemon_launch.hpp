// SPDX-License-Identifier: MIT
#pragma once

// Starts a daemon under test the way PID 1 does.

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace thaw::fakes {

struct DaemonLaunch {
    std::string program;
    // Name and number; borrowed. The daemon finds them from 3 on, as $LISTEN_FDS has it.
    std::vector<std::pair<std::string, int>> descriptors;
    std::vector<std::pair<std::string, std::string>> environment; // on top of ours
    int log = -1;                                                 // in place of standard error
    std::vector<std::string> arguments{};
};

// The daemon's pid, to be reaped by the caller; -1: no process could be made. Nothing else of ours
// is open in the daemon, no signal is blocked, and it dies with the calling thread.
pid_t launch_daemon(const DaemonLaunch& launch);

} // namespace thaw::fakes
