// SPDX-License-Identifier: MIT

#include "core/text.hpp"
#include "verbs.hpp"

namespace thaw::ctl {

Result<image::Drive> parse_drive(const std::string& text) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
        return fail(EINVAL, "drive '{}': expected ID=PATH[:ro][:shared]", text);
    image::Drive drive;
    drive.id = text.substr(0, equals);
    drive.path = text.substr(equals + 1);
    // Options are taken from the end, so that a path may hold colons.
    for (;;) {
        if (drive.path.ends_with(":ro")) {
            drive.read_only = true;
            drive.path.resize(drive.path.size() - 3);
        } else if (drive.path.ends_with(":shared")) {
            drive.shared = true;
            drive.path.resize(drive.path.size() - 7);
        } else {
            break;
        }
    }
    if (drive.path.empty()) return fail(EINVAL, "drive '{}': no path", text);
    if (drive.shared && !drive.read_only)
        return fail(EINVAL, "drive '{}': a shared drive must be read-only (:ro:shared)", text);
    return drive;
}

Result<std::uint64_t> parse_page_size(const std::string& text) {
    const auto size = parse_size(text);
    if (!size || (*size != image::kPageSize4K && *size != image::kPageSize2M))
        return fail(EINVAL, "page size '{}': expected 4K or 2M", text);
    return *size;
}

Result<NetworkOverride> parse_network_override(const std::string& text) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
        return fail(EINVAL, "network override '{}': expected IFACE=DEV", text);
    return NetworkOverride{text.substr(0, equals), text.substr(equals + 1)};
}

Result<std::string> check_backend(const std::string& text) {
    if (text == "auto" || text == "uffd" || text == "file") return text;
    return fail(EINVAL, "memory backend '{}': expected auto, uffd or file", text);
}

} // namespace thaw::ctl
