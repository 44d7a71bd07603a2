// SPDX-License-Identifier: MIT
#include "api/restore1.hpp"
#include "tracked_devices.hpp"

#include <gtest/gtest.h>

namespace thaw::restore {
namespace {

constexpr std::string_view kPlain =
    R"({"drives": [{"drive_id": "rootfs", "path_on_host": "/r.img", "io_engine": "Async",
                    "socket": null}],
        "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "tap0"}],
        "balloon": null, "machine-config": {"vcpu_count": 2}, "vsock": null})";

bool refused(std::string_view vmm, std::string_view config, std::string_view word = "") {
    const auto failure = judge_devices(vmm, config);
    return failure && failure->name == restore1::error::kTrackingUnsupported &&
           failure->message.find(word) != std::string::npos;
}

TEST(TrackedDevices, DevicesOfTheVmmItselfAreSeen) {
    EXPECT_FALSE(judge_devices("firecracker", kPlain));
    EXPECT_FALSE(judge_devices("firecracker", "{}"));
}

TEST(TrackedDevices, WhatWritesPastTheVmmIsRefused) {
    EXPECT_TRUE(refused(
        "firecracker", R"({"drives": [{"drive_id": "a"}, {"drive_id": "b", "socket": "/b.sock"}]})",
        "vhost-user"
    ));
    EXPECT_TRUE(refused("firecracker", R"({"drives": [{"direct": true}]})", "O_DIRECT"));
    EXPECT_TRUE(refused("firecracker", R"({"vfio": [{"path": "/dev/vfio/1"}]})", "vfio"));
    EXPECT_FALSE(judge_devices("firecracker", R"({"vfio": []})"));
}

TEST(TrackedDevices, WhatIsNotUnderstoodIsRefused) {
    EXPECT_TRUE(refused("cloud-hypervisor", kPlain));
    for (const char* text : {"", "[]", "null", "{", "nonsense", R"({"drives": ["a"]})"})
        EXPECT_TRUE(refused("firecracker", text)) << text;
}

} // namespace
} // namespace thaw::restore
