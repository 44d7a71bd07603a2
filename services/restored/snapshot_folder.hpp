// SPDX-License-Identifier: MIT
#pragma once

// The folder on disk where the VMM of one VM may write snapshots; made for each start of its unit.
// Everything here blocks on the disk: run it through Disk, about that folder.

#include "core/error.hpp"

#include <string>

namespace thaw::restore {

std::string snapshot_folder(const std::string& vm);
// What Disk is asked about.
std::string snapshot_folder_name(const std::string& vm);
// Anew, and empty.
Result<> make_snapshot_folder(const std::string& vm);
Result<> remove_snapshot_folder(const std::string& vm);
// The VM's unit has that very folder mounted: it stays while the VM lives.
Result<> empty_snapshot_folder(const std::string& vm);

} // namespace thaw::restore
