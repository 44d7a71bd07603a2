// SPDX-License-Identifier: MIT
#pragma once

// Texts of the drop-ins that make one share of the templates thaw-virtiofsd@.socket and .service.
// Pure.

#include "dialect.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace thaw::sharesd {

struct ShareUnits {
    std::string vm;
    std::string tag;
    std::string source;
    std::string socket;               // path
    std::vector<std::string> command; // of the daemon
    std::uint64_t limit = 0;          // LimitNOFILE=
    ShareOptions options;
};

std::string socket_drop_in_text(const ShareUnits& units);
std::string service_drop_in_text(const ShareUnits& units);

// "VM:TAG": value of THAW_SHARE=, and name of object and record.
std::string share_id(std::string_view vm, std::string_view tag);
// Path of a unit's drop-in below systemd's folder of runtime units.
std::string drop_in_path(std::string_view unit_directory, std::string_view unit);

inline constexpr const char* kSocketGroup = "thaw-vmm";

} // namespace thaw::sharesd
