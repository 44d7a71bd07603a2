// SPDX-License-Identifier: MIT
#include "core/rootfs_names.hpp"

#include "core/names.hpp"

#include <fmt/format.h>

namespace thaw {

std::string rootfs_service(std::string_view vm) {
    return fmt::format("thaw-rootfs@{}.service", unit_escape(vm));
}

namespace paths {

std::string rootfs_directory(std::string_view vm) {
    return fmt::format("{}/{}", kRootfs, vm);
}

std::string rootfs_drop_in(std::string_view vm) {
    return fmt::format("{}/{}.d/50-thaw.conf", kRuntimeUnits, rootfs_service(vm));
}

} // namespace paths

} // namespace thaw
