// SPDX-License-Identifier: MIT
#pragma once

// Whether all writes to a VM's memory can be seen, judged by the devices that its VMM names. Pure.

#include "failure.hpp"

#include <optional>
#include <string_view>

namespace thaw::restore {

// `config`: what GET /vm/config says. Refused (TrackingUnsupported) is what may write past the page
// tables of the VMM: another process (vhost-user), a device (VFIO), I/O into pinned pages
// (O_DIRECT). So is what cannot be judged.
std::optional<Failure> judge_devices(std::string_view vmm, std::string_view config);

} // namespace thaw::restore
