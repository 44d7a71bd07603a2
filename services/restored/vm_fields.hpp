// SPDX-License-Identifier: MIT
#pragma once

// Journal fields of every entry about a VM. With OBJECT_SYSTEMD_UNIT= (the journal takes it from
// uid 0) `systemctl status` and `journalctl -u` of the VM's unit show the entry too.

#include "core/names.hpp"
#include "log/log.hpp"

#include <string>

namespace thaw::restore {

// Empty for the empty name; what is no name of a VM has no unit either.
inline LogFields vm_fields(const std::string& name) {
    if (name.empty()) return {};
    LogFields fields{{"THAW_INSTANCE", name}};
    if (is_valid_vm_name(name)) fields.push_back({"OBJECT_SYSTEMD_UNIT", vmm_unit(name)});
    return fields;
}

} // namespace thaw::restore
