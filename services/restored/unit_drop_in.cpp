// SPDX-License-Identifier: MIT
#include "unit_drop_in.hpp"

#include "core/names.hpp"
#include "core/rootfs_names.hpp"

#include <xxhash.h>

namespace thaw::restore {

namespace {

// systemd takes user names of at most 31 characters: 8 + 22, or 8 + 10 + "-" + 12 digits.
constexpr std::size_t kUserNamePart = 22;
constexpr std::size_t kUserNameStart = 10;

// The node takes the place of what the snapshot names.
std::string device_text(std::string_view vm, const image::Drive& drive) {
    const auto node = paths::rootfs_device(vm);
    const auto place =
        drive.path.starts_with('/') ? drive.path : paths::vm_directory(vm) + "/" + drive.path;
    return fmt::format(
        "DeviceAllow={0} {1}\n"
        "{2}={0}:{3}\n",
        node, drive.read_only ? "r" : "rw", drive.read_only ? "BindReadOnlyPaths" : "BindPaths",
        quote_unit_word(place)
    );
}

} // namespace

std::string vmm_user(std::string_view vm) {
    return user_of_vm("vm", vm);
}

std::string user_of_vm(std::string_view kind, std::string_view vm) {
    // A hashed name is longer than any that is taken as it is: no VM can ask for another's.
    if (vm.size() <= kUserNamePart) return fmt::format("thaw-{}-{}", kind, vm);
    return fmt::format(
        "thaw-{}-{}-{:012x}", kind, vm.substr(0, kUserNameStart),
        XXH3_64bits(vm.data(), vm.size()) >> 16
    );
}

std::string drop_in_text(
    std::string_view vm, const image::Manifest& manifest, const std::string& image_directory,
    const VmServices& services
) {
    std::string text = fmt::format(
        "# Written by thaw-restored for one start; removed when the VM has ended.\n"
        "[Service]\n"
        "User={}\n"
        "BindReadOnlyPaths={}\n",
        vmm_user(vm), quote_unit_word(image_directory)
    );
    if (services.shares) text += fmt::format("BindReadOnlyPaths={}\n", paths::share_directory(vm));
    if (services.rootfs) text += fmt::format("BindReadOnlyPaths={}\n", paths::rootfs_directory(vm));
    for (const auto& drive : manifest.drives) {
        if (drive.id == services.rootfs_drive) {
            text += device_text(vm, drive);
            continue;
        }
        if (!drive.path.starts_with('/')) continue; // below the VM's own directory
        const auto path = quote_unit_word(drive.path);
        if (drive.path.starts_with("/dev/"))
            text += fmt::format("DeviceAllow={} {}\n", path, drive.read_only ? "r" : "rw");
        else
            text +=
                fmt::format("{}={}\n", drive.read_only ? "BindReadOnlyPaths" : "BindPaths", path);
    }
    return text;
}

} // namespace thaw::restore
