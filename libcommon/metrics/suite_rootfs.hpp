// SPDX-License-Identifier: MIT
#pragma once

// The part of the suite's metrics that overlays of root file systems tell themselves, over their
// control sockets and not on the bus.

#include "metrics/openmetrics.hpp"
#include "protocol/rootfs_control.hpp"

#include <span>
#include <vector>

namespace thaw::metrics {

// How many there are, at 0 too; all else once per overlay, labelled with its VM.
void add_overlays(std::vector<Family>& families, std::span<const protocol::RootfsStatus> overlays);

} // namespace thaw::metrics
