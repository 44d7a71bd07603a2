// SPDX-License-Identifier: MIT
#pragma once

// Settings of a unit for one start, /run/systemd/system/UNIT.d/50-thaw.conf: written before systemd
// loads the unit, so that no daemon-reload is needed.

#include "core/error.hpp"

#include <string>
#include <string_view>

namespace thaw {

// One word of a unit file: quoted, specifiers and quotes taken literally by systemd. In a command
// line a "$" still means a variable.
std::string quote_unit_word(std::string_view word);

// Atomically; also moves the time stamp of systemd's folder, which systemd caches: two folders
// made within one tick of the kernel's coarse clock would look like one change.
Result<> write_drop_in(const std::string& path, std::string_view text);
// The file and, when it is empty then, its folder. Content when nothing is there.
Result<> remove_drop_in(const std::string& path);

} // namespace thaw
