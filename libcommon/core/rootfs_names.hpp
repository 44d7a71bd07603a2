// SPDX-License-Identifier: MIT
#pragma once

// Names of the server of a VM's root file system.

#include <array>
#include <string>
#include <string_view>

namespace thaw {

std::string rootfs_service(std::string_view vm); // thaw-rootfs@a\x2db.service
// When it is stopped, so are the service and the control socket.
std::string rootfs_socket(std::string_view vm);
// Holds the block device of a VM whose VMM speaks no NBD; stops with the service.
std::string rootfs_device_service(std::string_view vm); // thaw-nbd@a\x2db.service
// All three, and the control socket.
std::array<std::string, 4> rootfs_units(std::string_view vm);

namespace paths {
inline constexpr const char* kRootfs = "/run/thaw/rootfs";
inline constexpr const char* kRootfsState = "/var/lib/thaw/rootfs"; // durable overlays
inline constexpr const char* kDevices = "/dev/thaw";
std::string rootfs_directory(std::string_view vm); // /run/thaw/rootfs/VM
std::string rootfs_device(std::string_view vm);    // /dev/thaw/VM
// Where the pager serves a base that lies behind a URL.
std::string rootfs_source(std::string_view vm);    // /run/thaw/pager/rootfs/VM.sock
std::string rootfs_drop_in(std::string_view unit); // .../thaw-rootfs@X.service.d/50-thaw.conf
} // namespace paths

} // namespace thaw
