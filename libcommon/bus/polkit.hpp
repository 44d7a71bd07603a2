// SPDX-License-Identifier: MIT
#pragma once

// Asks polkit whether the sender of a method call may do it. Asynchronous; honours the message's
// interactive-authorization flag. uid 0 is always allowed. Without polkit on the bus only uid 0 is.

#include "bus/bus.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace thaw {

class Polkit {
public:
    explicit Polkit(Bus& bus) : bus_(bus) {}
    // Pending questions are dropped; their callers get no answer from us, the bus ends them.
    ~Polkit();
    Polkit(const Polkit&) = delete;
    Polkit& operator=(const Polkit&) = delete;

    using Details = std::vector<std::pair<std::string, std::string>>;
    // `then` runs (perhaps at once) with success, AccessDenied or InteractiveAuthorizationRequired.
    void authorize(
        const BusMessage& call, const std::string& action, const Details& details,
        std::function<void(Result<>)> then
    );

private:
    Bus& bus_;
    std::uint64_t next_ = 0;
    std::map<std::uint64_t, BusSlot> pending_;
};

} // namespace thaw
