// SPDX-License-Identifier: MIT
#pragma once

namespace thaw::ctl {

// While it lives, Ctrl-C (SIGINT, SIGTERM, SIGHUP) ends nothing by itself: the operation sees
// was_interrupted() at its next step, and its own clean-up runs. One at a time.
class InterruptGuard {
public:
    InterruptGuard();
    InterruptGuard(const InterruptGuard&) = delete;
    InterruptGuard& operator=(const InterruptGuard&) = delete;
    ~InterruptGuard();
};

// Since the guard was made.
bool was_interrupted();

} // namespace thaw::ctl
