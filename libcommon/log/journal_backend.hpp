// SPDX-License-Identifier: MIT
#pragma once

// How an entry gets to the journal. Daemons use libsystemd; thaw-pager-worker, which must start in
// a millisecond, speaks the journal's datagram protocol itself and links its own make of this
// function.

#include <span>
#include <string>

namespace thaw {

// Each entry is "KEY=value"; the value may hold any bytes. False when the journal did not take it.
bool send_to_journal(std::span<const std::string> entries);

} // namespace thaw
