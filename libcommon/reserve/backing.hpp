// SPDX-License-Identifier: MIT
#pragma once

// What a file system's block device is made of, as far as sysfs tells.

#include "reserve/volume.hpp"

namespace thaw::reserve {

// Follows partitions, device-mapper slaves and btrfs members down. Thin: a loop device over a file
// with holes, or a thin pool of device mapper, anywhere below. What cannot be seen is Solid.
Backing backing_of(dev_t device, const std::string& type, const std::string& uuid);

} // namespace thaw::reserve
