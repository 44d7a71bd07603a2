// SPDX-License-Identifier: MIT
#pragma once

// What the stand-in VMM says of itself, and what PID 1 says of its unit.

#include "bus/bus.hpp"

#include <string>

namespace thaw::bench {

struct VmmReport {
    Microseconds exec_to_api = 0; // start of the process to a bound API socket
    Microseconds load = 0;        // its own part of PUT /snapshot/load
};

// GET /standin/report over the VM's API socket; blocking.
Result<VmmReport> read_vmm_report(const std::string& api_socket);

// InactiveExit to ActiveEnter of the unit; 0 when PID 1 does not say. Blocking: benches only.
Microseconds unit_start_time(Bus& bus, const std::string& unit);

} // namespace thaw::bench
