// SPDX-License-Identifier: MIT
#include "tracked_devices.hpp"

#include "api/restore1.hpp"
#include "config/json.hpp"

#include <nlohmann/json.hpp>

#include <array>

namespace thaw::restore {

namespace {

Failure unsupported(std::string message) {
    return {
        .name = restore1::error::kTrackingUnsupported,
        .message = "what the VM writes cannot be tracked: " + std::move(message)
    };
}

// Members that name a device whose writes nobody sees, wherever they stand.
constexpr std::array<std::string_view, 3> kForeignDevices{"vfio", "vhost-user", "vhost_user"};

// What of one device speaks against it; empty: nothing.
std::string objection(const nlohmann::json& device) {
    if (!device.is_object()) return "a device that is not understood";
    // A drive with a socket is one that another process serves.
    const auto socket = device.find("socket");
    if (socket != device.end() && !socket->is_null()) return "a vhost-user device";
    const auto direct = device.find("direct");
    if (direct != device.end() && *direct != false && !direct->is_null())
        return "a drive with O_DIRECT";
    return {};
}

} // namespace

std::optional<Failure> judge_devices(std::string_view vmm, std::string_view config) {
    if (vmm != "firecracker") return unsupported(fmt::format("the VMM is {}", vmm));
    const auto root = nlohmann::json::parse(config, nullptr, false);
    if (!root.is_object()) return unsupported("the VMM does not say which devices it has");
    for (const auto& [name, value] : root.items()) {
        for (const auto foreign : kForeignDevices)
            if (name.find(foreign) != std::string::npos && !value.empty())
                return unsupported("it has " + name);
        if (!value.is_array()) continue;
        for (const auto& device : value)
            if (const auto why = objection(device); !why.empty())
                return unsupported(fmt::format("{} in {}", why, name));
    }
    return std::nullopt;
}

} // namespace thaw::restore
