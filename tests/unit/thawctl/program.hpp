// SPDX-License-Identifier: MIT
#pragma once

// Runs the real thawctl as a child, while the test's event loop goes on.

#include "event/event.hpp"

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace thaw::ctl::testing {

struct ProgramResult {
    int exit_code = -1; // 128 + signal when it was killed
    std::string out;
    std::string err;
};

struct ProgramOptions {
    std::vector<std::string> environment; // beside PATH and the bus address; no HOME
    bool terminal = false;                // stdout and stderr are one terminal; all is in `out`
    bool silent_bus = false;              // no bus address at all
    // Called now and then with the child's pid, e.g. to send a signal.
    std::function<void(pid_t)> meanwhile;
};

// `loop` may be nullptr when nothing has to be served meanwhile.
ProgramResult run_thawctl(
    EventLoop* loop, const std::vector<std::string>& arguments, const ProgramOptions& options = {}
);

inline bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

} // namespace thaw::ctl::testing
