// SPDX-License-Identifier: MIT
#include "rootfs_options.hpp"

#include "build_config.hpp"
#include "bus/properties.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "core/rootfs_names.hpp"
#include "systemd/drop_in.hpp"
#include "unit_drop_in.hpp"

#include <unistd.h>

#include <algorithm>
#include <vector>

namespace thaw::restore {

namespace {

constexpr std::uint64_t kSector = 512;

// Of a path below a folder: no way out of it.
bool stays_below(std::string_view path) {
    while (!path.empty()) {
        const auto slash = path.find('/');
        if (path.substr(0, slash) == "..") return false;
        if (slash == std::string_view::npos) break;
        path.remove_prefix(slash + 1);
    }
    return true;
}

Result<> check(const RootfsRequest& request) {
    const auto& base = request.base;
    if (base.empty()) return fail(EINVAL, "Base is missing");
    const bool plain = std::ranges::none_of(base, [](char c) {
        return static_cast<unsigned char>(c) < ' ' || c == '\x7f';
    });
    if (!plain || !stays_below(base)) return fail(EINVAL, "Base: not a path");
    if (request.size && (*request.size == 0 || *request.size % kSector != 0))
        return fail(EINVAL, "Size: not whole sectors of {} bytes", kSector);
    return {};
}

// A dollar sign would begin a variable.
std::string quote_command_word(std::string_view word) {
    std::string quoted;
    for (const char c : quote_unit_word(word)) {
        quoted += c;
        if (c == '$') quoted += c;
    }
    return quoted;
}

} // namespace

Result<RootfsRequest> read_rootfs_request(BusMessage& message) {
    RootfsRequest request;
    THAW_CHECK(message.enter_container('v', "a{sv}"));
    const auto read = [&](std::string_view key) -> Result<> {
        for (const auto& [name, target] :
             {std::pair{std::string_view("Base"), &request.base}, {"Drive", &request.drive}}) {
            if (key != name) continue;
            const char* text = nullptr;
            THAW_CHECK(message.read("v", "s", &text));
            *target = text;
            return {};
        }
        if (key == "Durable") {
            int on = 0;
            THAW_CHECK(message.read("v", "b", &on));
            request.durable = on != 0;
            return {};
        }
        for (const auto& [name, target] :
             {std::pair{std::string_view("Size"), &request.size},
              {"MemoryMax", &request.memory_max},
              {"DiskMax", &request.disk_max}}) {
            if (key != name) continue;
            std::uint64_t value = 0;
            THAW_CHECK(message.read("v", "t", &value));
            *target = value;
            return {};
        }
        return fail(EINVAL, "{}: unknown setting", key);
    };
    THAW_CHECK(for_each_property(message, read));
    THAW_CHECK(message.exit_container());
    THAW_CHECK(check(request));
    return request;
}

RootfsBase base_on_this_host(const RootfsRequest& request, const std::string& image_directory) {
    RootfsBase base;
    base.path = request.base.starts_with('/') ? request.base : image_directory + "/" + request.base;
    return base;
}

std::string
rootfs_drop_in_text(std::string_view vm, const RootfsRequest& request, const RootfsBase& base) {
    const auto folder = fmt::format("{}/{}", paths::kRootfsState, vm);
    std::vector<std::string> settings{fmt::format("name={}", vm)};
    if (base.path.empty())
        for (const auto& [key, value] :
             {std::pair{"base-socket", base.socket},
              {"base-digest", base.digest},
              {"base-image", base.image}})
            settings.push_back(fmt::format("{}={}", key, value));
    else
        settings.push_back("base=" + base.path);
    if (request.size) settings.push_back(fmt::format("size={}", *request.size));
    if (request.memory_max && !request.durable)
        settings.push_back(fmt::format("memory={}", *request.memory_max));
    if (request.disk_max) settings.push_back(fmt::format("disk-max={}", *request.disk_max));
    settings.push_back((request.durable ? "durable=" : "spill=") + folder);
    std::string command = THAW_LIBEXECDIR "/thaw-rootfs";
    for (const auto& setting : settings)
        command += " " + quote_command_word(setting);
    const auto device =
        base.path.starts_with("/dev/")
            ? fmt::format("PrivateDevices=no\nDeviceAllow={} r\n", quote_unit_word(base.path))
            : std::string();
    return fmt::format(
        "# Written by thaw-restored for one start; removed when the VM has ended.\n"
        "[Unit]\n"
        // The VM stops first: its disk must not vanish under it.
        "Before={}\n"
        "[Service]\n"
        "ExecStart=\n"
        "ExecStart={}\n"
        "User={}\n"
        "Slice={}\n"
        "LogExtraFields=THAW_INSTANCE={}\n"
        "{}{}",
        vmm_unit(vm), command, user_of_vm("fs", vm), vm_slice(vm), vm, device,
        request.durable ? "Restart=on-failure\n" : ""
    );
}

Result<>
write_rootfs_settings(std::string_view vm, const RootfsRequest& request, const RootfsBase& base) {
    // What an ephemeral overlay held is gone with its process: nobody may find an empty one.
    const auto socket = fmt::format("[Unit]\nBindsTo={}\n", rootfs_service(vm));
    if (!request.durable)
        THAW_CHECK(write_drop_in(paths::rootfs_drop_in(rootfs_socket(vm)), socket));
    return write_drop_in(
        paths::rootfs_drop_in(rootfs_service(vm)), rootfs_drop_in_text(vm, request, base)
    );
}

bool has_rootfs_settings(std::string_view vm) {
    const auto is_there = [](const std::string& path) { return ::access(path.c_str(), F_OK) == 0; };
    return is_there(paths::rootfs_drop_in(rootfs_service(vm))) ||
           is_there(paths::rootfs_drop_in(rootfs_socket(vm))) ||
           is_there(paths::rootfs_directory(vm));
}

Result<> remove_rootfs_settings(std::string_view vm) {
    auto service = remove_drop_in(paths::rootfs_drop_in(rootfs_service(vm)));
    auto socket = remove_drop_in(paths::rootfs_drop_in(rootfs_socket(vm)));
    auto folder = remove_tree(paths::rootfs_directory(vm));
    if (!service) return service;
    return socket ? folder : socket;
}

} // namespace thaw::restore
