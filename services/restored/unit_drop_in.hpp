// SPDX-License-Identifier: MIT
#pragma once

// Settings of a VM's unit for one start: /run/systemd/system/UNIT.d/50-thaw.conf.

#include "image/manifest.hpp"
#include "systemd/drop_in.hpp"

#include <string>
#include <string_view>

namespace thaw::restore {

// The user name of a VM's VMM, for DynamicUser=: its own, also when the VM's name is longer than a
// user name may be. Without it systemd names the user after the template and gives all VMs one uid.
std::string vmm_user(std::string_view vm);

// The same for another process of that VM; `kind` has two letters, "vm" is the VMM's.
std::string user_of_vm(std::string_view kind, std::string_view vm);

// What thaw serves for this VM, and its VMM reaches.
struct VmServices {
    bool shares = false;
    bool rootfs = false;
    std::string rootfs_drive; // id of the drive that is a block device of the overlay; or empty
};
// The VMM has a uid of its own, and sees of the images only its own directory, and the drives that
// the snapshot names by absolute path.
std::string drop_in_text(
    std::string_view vm, const image::Manifest& manifest, const std::string& image_directory,
    const VmServices& services = {}
);

} // namespace thaw::restore
