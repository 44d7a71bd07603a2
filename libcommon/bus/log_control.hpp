// SPDX-License-Identifier: MIT
#pragma once

// org.freedesktop.LogControl1 on /org/freedesktop/LogControl1: `systemctl service-log-level`.

#include "bus/bus.hpp"

namespace thaw {

// SyslogIdentifier is the program's name as given to log_init().
Result<BusSlot> export_log_control(Bus& bus);

} // namespace thaw
