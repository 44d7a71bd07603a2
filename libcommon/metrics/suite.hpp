// SPDX-License-Identifier: MIT
#pragma once

// The suite's metrics out of what its daemons show on the bus. Whoever collects them (a program
// that may wait, or one that may not) asks each daemon of kDaemons for its managed objects.

#include "bus/json_value.hpp"
#include "metrics/openmetrics.hpp"
#include "protocol/rootfs_control.hpp"

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::metrics {

struct Daemon {
    std::string_view name; // label
    const char* bus_name;
    const char* path;
    // Interface of the root object, which no ObjectManager lists; empty: all it has.
    const char* manager;
};
inline constexpr std::array kDaemons{
    Daemon{"restored", "org.thaw.restore1", "/org/thaw/restore1", "org.thaw.restore1.Manager"},
    Daemon{"pagerd", "org.thaw.pager1", "/org/thaw/pager1", ""},
};

// What one daemon answered.
struct Answer {
    bool up = false; // false: nobody owns the name, or it did not answer
    std::map<std::string, nlohmann::json> manager;
    std::vector<ManagedObject> objects;
};
using Answers = std::array<Answer, kDaemons.size()>;

// Every series of the host exists whatever the daemons said, at 0 where there is nothing; those of
// a VM exist while it has a session.
// `overlays` is nullptr for whoever may not ask them: then there is nothing of them, not 0.
std::string suite_exposition(
    const Answers& answers, const std::vector<protocol::RootfsStatus>* overlays = nullptr
);

// Upper bounds in seconds of the fault latency buckets (protocol/session_layout.hpp).
std::vector<double> latency_bounds(std::size_t buckets);

} // namespace thaw::metrics
