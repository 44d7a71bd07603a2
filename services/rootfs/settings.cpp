// SPDX-License-Identifier: MIT
#include "settings.hpp"

#include "core/text.hpp"
#include "overlay/remote_base.hpp"

#include <charconv>

namespace thaw::rootfs {

namespace {

Result<> take_path(std::string& path, std::string_view key, std::string_view value) {
    if (value.empty() || value.front() != '/')
        return fail(EINVAL, "{}={}: the path must begin with a slash", key, value);
    path = value;
    return {};
}

Result<> take_size(std::uint64_t& size, std::string_view value) {
    THAW_TRY(size, parse_size(value));
    return {};
}

Result<> take_digest(std::string& digest, std::string_view value) {
    const auto bytes = hex_decode(value);
    if (!bytes || bytes->size() != std::tuple_size_v<ContentDigest>)
        return fail(EINVAL, "base-digest={}: not 32 hex digits", value);
    digest = value;
    return {};
}

} // namespace

Result<> apply_setting(Settings& settings, std::string_view key, std::string_view value) {
    if (key == "base") return take_path(settings.base, key, value);
    if (key == "base-socket") return take_path(settings.base_socket, key, value);
    if (key == "base-digest") return take_digest(settings.base_digest, value);
    if (key == "spill") return take_path(settings.spill, key, value);
    if (key == "durable") return take_path(settings.durable, key, value);
    if (key == "size") return take_size(settings.size, value);
    if (key == "memory") return take_size(settings.memory, value);
    if (key == "disk-max") return take_size(settings.disk_max, value);
    if (key == "name" || key == "base-image") {
        (key == "name" ? settings.name : settings.base_image) = value;
        return {};
    }
    if (key == "control-fd") {
        const auto [end, failed] =
            std::from_chars(value.data(), value.data() + value.size(), settings.control);
        if (failed != std::errc() || end != value.data() + value.size() || settings.control < 3)
            return fail(EINVAL, "control-fd={}: not a descriptor", value);
        return {};
    }
    return fail(EINVAL, "{}={}: no such setting", key, value);
}

Result<> check_settings(const Settings& settings) {
    if (settings.base.empty() == settings.base_socket.empty())
        return fail(EINVAL, "either base= or base-socket= is needed");
    if (settings.base_socket.empty() != settings.base_digest.empty())
        return fail(EINVAL, "base-socket= and base-digest= belong together");
    if (!settings.durable.empty() && !settings.spill.empty())
        return fail(EINVAL, "a durable overlay lies in its folder: spill= is for others");
    if (settings.durable.empty() && settings.spill.empty() && settings.memory == 0)
        return fail(EINVAL, "no room for changes: neither memory= nor spill= nor durable=");
    return {};
}

} // namespace thaw::rootfs
