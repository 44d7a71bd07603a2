// SPDX-License-Identifier: MIT
#include "core/rootfs_names.hpp"

#include "core/names.hpp"

#include <fmt/format.h>

namespace thaw {

std::string rootfs_service(std::string_view vm) {
    return fmt::format("thaw-rootfs@{}.service", unit_escape(vm));
}

std::string rootfs_socket(std::string_view vm) {
    return fmt::format("thaw-rootfs@{}.socket", unit_escape(vm));
}

std::string rootfs_device_service(std::string_view vm) {
    return fmt::format("thaw-nbd@{}.service", unit_escape(vm));
}

std::array<std::string, 4> rootfs_units(std::string_view vm) {
    return {
        rootfs_service(vm), rootfs_socket(vm), rootfs_device_service(vm),
        fmt::format("thaw-rootfs-control@{}.socket", unit_escape(vm))
    };
}

namespace paths {

std::string rootfs_directory(std::string_view vm) {
    return fmt::format("{}/{}", kRootfs, vm);
}

std::string rootfs_source(std::string_view vm) {
    return fmt::format("/run/thaw/pager/rootfs/{}.sock", vm);
}

std::string rootfs_device(std::string_view vm) {
    return fmt::format("{}/{}", kDevices, vm);
}

std::string rootfs_drop_in(std::string_view unit) {
    return fmt::format("{}/{}.d/50-thaw.conf", kRuntimeUnits, unit);
}

} // namespace paths

} // namespace thaw
