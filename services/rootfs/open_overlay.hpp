// SPDX-License-Identifier: MIT
#pragma once

// From settings to an overlay on real files.

#include "overlay/overlay.hpp"
#include "settings.hpp"

namespace thaw::rootfs {

// Makes the folder of a durable overlay if it is not there. EBUSY: another process has it; else as
// Overlay::open().
Result<std::unique_ptr<Overlay>> open_overlay(const Settings& settings);

} // namespace thaw::rootfs
