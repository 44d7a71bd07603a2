// SPDX-License-Identifier: MIT

#include "interrupt.hpp"

#include <signal.h>

#include <atomic>

namespace thaw::ctl {

namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

// volatile sig_atomic_t would do; an atomic flag says it.
std::atomic<bool> interrupted{false};

} // namespace

InterruptGuard::InterruptGuard() {
    interrupted = false;
    for (const int number : kSignals) {
        struct sigaction action{};
        action.sa_handler = [](int) { interrupted = true; };
        sigaction(number, &action, nullptr);
    }
}

InterruptGuard::~InterruptGuard() {
    for (const int number : kSignals)
        (void)signal(number, SIG_DFL);
}

bool was_interrupted() {
    return interrupted;
}

} // namespace thaw::ctl
