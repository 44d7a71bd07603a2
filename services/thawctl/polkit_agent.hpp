// SPDX-License-Identifier: MIT
#pragma once

// polkit's agent for terminals: asks for the password where no desktop does.

#include "core/error.hpp"

#include <sys/types.h>

namespace thaw::ctl {

// A running pkttyagent for this process. Ends it on destruction.
class PolkitAgent {
public:
    // Returns once the agent is registered with polkit. ENOTTY without a terminal to ask on, ENOENT
    // where pkttyagent is not installed; EIO when it gave up.
    static Result<PolkitAgent> start();

    PolkitAgent(PolkitAgent&& other) noexcept;
    PolkitAgent& operator=(PolkitAgent&&) = delete;
    ~PolkitAgent();

private:
    explicit PolkitAgent(pid_t pid) noexcept : pid_(pid) {}
    pid_t pid_;
};

} // namespace thaw::ctl
