// SPDX-License-Identifier: MIT
#pragma once

// Names that more than one program must agree on: VM names, units, slices, paths.

#include "core/error.hpp"

#include <string>
#include <string_view>

namespace thaw {

// [A-Za-z0-9][A-Za-z0-9-]{0,62}, and no more dashes than the unit's name has room for once they are
// escaped (about 55).
bool is_valid_vm_name(std::string_view name);
// Image names: [A-Za-z0-9][A-Za-z0-9._-]{0,127}, never "." or "..": one path component.
bool is_valid_image_name(std::string_view name);

// Tags of virtiofs shares: [A-Za-z0-9_][A-Za-z0-9._-]{0,35}; virtio-fs has room for 36 bytes.
bool is_valid_share_tag(std::string_view tag);
// Share and VM fit into one unit's name once both are escaped.
bool is_valid_share_name(std::string_view vm, std::string_view tag);

// systemd's escaping of a unit instance; a dash becomes \x2d (a bare one would nest slices).
std::string unit_escape(std::string_view name);
// Reverses unit_escape; EINVAL on bad escapes and on what unit_escape never writes.
Result<std::string> unit_unescape(std::string_view escaped);

std::string vmm_unit(std::string_view vm); // thaw-firecracker@a\x2db.service
std::string vm_slice(std::string_view vm); // thaw-a\x2db.slice
// The VM's name when `unit` is a VMM unit of ours, else EINVAL.
Result<std::string> vm_of_vmm_unit(std::string_view unit);

std::string share_service(std::string_view vm, std::string_view tag); // thaw-virtiofsd@VM:TAG...
std::string share_socket_unit(std::string_view vm, std::string_view tag);

inline constexpr std::string_view kUnitPrefix = "thaw-";
inline constexpr const char* kWorkersUnit = "thaw-pager-workers.service";

namespace paths {
inline constexpr const char* kImages = "/var/lib/thaw/images";
inline constexpr const char* kSnapshots = "/var/lib/thaw/snapshots";
inline constexpr const char* kVmRuntime = "/run/thaw/vm";
inline constexpr const char* kRestoreRuntime = "/run/thaw/restore";
inline constexpr const char* kPagerRuntime = "/run/thaw/pager";
inline constexpr const char* kPagerVms = "/run/thaw/pager/vm";
inline constexpr const char* kPagerControl = "/run/thaw/pager/control";
inline constexpr const char* kShares = "/run/thaw/shares";
inline constexpr const char* kSharesRuntime = "/run/thaw/sharesd";
inline constexpr const char* kRuntimeUnits = "/run/systemd/system";

std::string vm_directory(std::string_view vm);    // /run/thaw/vm/NAME
std::string vm_api_socket(std::string_view vm);   // /run/thaw/vm/NAME/api.sock
std::string pager_directory(std::string_view vm); // /run/thaw/pager/vm/NAME
std::string pager_socket(std::string_view vm);    // /run/thaw/pager/vm/NAME/uffd.sock
std::string restore_ticket(std::string_view vm);  // /run/thaw/restore/ESCAPED.ticket
std::string share_directory(std::string_view vm); // /run/thaw/shares/VM
// .../VM/TAG.sock, or .../VM/.HASH.sock where that has more than the 107 bytes of a socket's path.
std::string share_socket(std::string_view vm, std::string_view tag);
std::string vm_drop_in(std::string_view vm); // .../thaw-firecracker@X.service.d/50-thaw.conf
} // namespace paths

} // namespace thaw
