// SPDX-License-Identifier: MIT
#pragma once

// /etc/thaw/instances/NAME.conf, what thaw-instance@NAME.service restores.

#include "config/ini.hpp"
#include "core/error.hpp"
#include "verbs.hpp"

#include <optional>
#include <string>
#include <vector>

namespace thaw::ctl {

struct InstanceConfig {
    std::string image;
    std::string memory_backend; // empty: the manager's choice
    std::optional<bool> prefetch;
    bool track = false;
    std::optional<std::uint64_t> load_timeout;  // µs
    std::vector<std::string> network_overrides; // IFACE=DEV
    OverlayArguments rootfs;                    // sizes are valid
};

// ENOENT when the file does not exist, EINVAL without Image=, and for Rootfs...= without
// Rootfs=. Lines that are ignored are added to
// `warnings`.
Result<InstanceConfig> read_instance_config(
    const std::string& directory, const std::string& name, std::vector<ConfigWarning>* warnings
);

} // namespace thaw::ctl
