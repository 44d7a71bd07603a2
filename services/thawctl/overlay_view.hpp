// SPDX-License-Identifier: MIT
#pragma once

#include "protocol/rootfs_control.hpp"

#include <optional>
#include <string>
#include <vector>

namespace thaw::ctl {

// What every running overlay says of itself; no value where the caller may not ask.
std::optional<std::vector<protocol::RootfsStatus>> ask_overlays();
// One line for people, with its end; empty when there is none.
std::string overlays_line(const std::vector<protocol::RootfsStatus>& overlays);

} // namespace thaw::ctl
