// SPDX-License-Identifier: MIT
#include "unit_files.hpp"

#include <gtest/gtest.h>

namespace thaw::sharesd {
namespace {

ShareUnits example_units() {
    return {
        .vm = "a-b",
        .tag = "home-dir",
        .source = "/srv/50% of \"x\":y",
        .socket = "/run/thaw/shares/a-b/home-dir.sock",
        .command = {"/opt/v d/virtiofsd", "--fd=3", "a$b"},
        .limit = 16384,
        .options = {}
    };
}

TEST(ServiceDropIn, EveryWordMeansItself) {
    EXPECT_EQ(
        service_drop_in_text(example_units()),
        "# Written by thaw-sharesd for one share; removed with it.\n"
        "[Service]\n"
        "ExecStart=\n"
        "ExecStart=\"/opt/v d/virtiofsd\" \"--fd=3\" \"a$$b\"\n"
        "Slice=thaw-a\\x2db.slice\n"
        "LimitNOFILE=16384\n"
        "LogExtraFields=THAW_INSTANCE=a-b THAW_SHARE=a-b:home-dir\n"
        "BindPaths=\"/srv/50%% of \\\"x\\\":y\":/run/thaw/share\n"
    );
}

TEST(ServiceDropIn, ReadOnlyIsTheHostsDoing) {
    auto units = example_units();
    units.options.read_only = true;
    const auto text = service_drop_in_text(units);
    EXPECT_NE(text.find("BindReadOnlyPaths=\"/srv"), std::string::npos);
    EXPECT_EQ(text.find("\nBindPaths="), std::string::npos);
}

TEST(ServiceDropIn, AShareOfAUserHasNoCapability) {
    auto units = example_units();
    units.options.user = "me";
    units.options.memory_high = 1 << 30;
    units.options.vm_unit = "qemu.service";
    const auto text = service_drop_in_text(units);
    for (const char* line :
         {"[Unit]\nBefore=qemu.service\n", "\nUser=me\n", "\nMemoryHigh=1073741824\n",
          "\nCapabilityBoundingSet=\n", "\nRestrictNamespaces=yes\n"})
        EXPECT_NE(text.find(line), std::string::npos) << line;
}

TEST(SocketDropIn, OneAddressAndOneOwner) {
    auto units = example_units();
    EXPECT_EQ(
        socket_drop_in_text(units), "# Written by thaw-sharesd for one share; removed with it.\n"
                                    "[Socket]\n"
                                    "ListenStream=\n"
                                    "ListenStream=/run/thaw/shares/a-b/home-dir.sock\n"
                                    "SocketUser=root\n"
                                    "SocketGroup=thaw-vmm\n"
                                    "Slice=thaw-a\\x2db.slice\n"
    );
    units.options.socket_user = "libvirt-qemu";
    EXPECT_NE(socket_drop_in_text(units).find("SocketUser=libvirt-qemu\n"), std::string::npos);
    EXPECT_EQ(
        drop_in_path("/run/systemd/system", "x@a:b.socket"),
        "/run/systemd/system/x@a:b.socket.d/50-thaw.conf"
    );
}

} // namespace
} // namespace thaw::sharesd
