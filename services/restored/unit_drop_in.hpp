// SPDX-License-Identifier: MIT
#pragma once

// Settings of a VM's unit for one start: /run/systemd/system/UNIT.d/50-thaw.conf. Written before
// systemd loads the unit, so that no daemon-reload is needed.

#include "image/manifest.hpp"

#include <string>
#include <string_view>

namespace thaw::restore {

// One word of a unit file: quoted, specifiers and quotes taken literally by systemd.
std::string quote_unit_word(std::string_view word);

// The user name of a VM's VMM, for DynamicUser=: its own, also when the VM's name is longer than a
// user name may be. Without it systemd names the user after the template and gives all VMs one uid.
std::string vmm_user(std::string_view vm);

// The VMM has a uid of its own, and sees of the images only its own directory, and the drives that
// the snapshot names by absolute path.
std::string drop_in_text(
    std::string_view vm, const image::Manifest& manifest, const std::string& image_directory
);

// Atomically; also moves the time stamp of systemd's folder, which systemd caches: two folders
// made within one tick of the kernel's coarse clock would look like one change.
Result<> write_drop_in(const std::string& path, std::string_view text);
// The file and, when it is empty then, its folder. Content when nothing is there.
Result<> remove_drop_in(const std::string& path);

} // namespace thaw::restore
