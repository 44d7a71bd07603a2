// SPDX-License-Identifier: MIT
#include "build_config.hpp"
#include "rootfs_options.hpp"
#include "temporary_directory.hpp"
#include "unit_drop_in.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace thaw::restore {
namespace {

namespace fs = std::filesystem;

TEST(DropIn, WordsMeanThemselves) {
    EXPECT_EQ(quote_unit_word("/srv/a.img"), R"("/srv/a.img")");
    EXPECT_EQ(quote_unit_word("/srv/a b:c"), R"("/srv/a b:c")");
    EXPECT_EQ(quote_unit_word("/srv/%i"), R"("/srv/%%i")");
    EXPECT_EQ(quote_unit_word("/srv/\"x\\"), R"("/srv/\"x\\")");
    EXPECT_EQ(quote_unit_word("/srv/it's"), R"("/srv/it's")");
}

TEST(DropIn, ShowsTheImageAndTheDrivesThatAreOutside) {
    image::Manifest manifest;
    manifest.drives = {
        {.id = "root", .path = "/srv/vm 1/root.img"},
        {.id = "data", .path = "/srv/data%.img", .read_only = true},
        {.id = "own", .path = "scratch.img"},
        {.id = "lv", .path = "/dev/vg/lv"},
        {.id = "rolv", .path = "/dev/vg/ro", .read_only = true},
    };
    EXPECT_EQ(
        drop_in_text("a-b", manifest, "/var/lib/thaw/images/base"),
        "# Written by thaw-restored for one start; removed when the VM has ended.\n"
        "[Service]\n"
        "User=thaw-vm-a-b\n"
        "BindReadOnlyPaths=\"/var/lib/thaw/images/base\"\n"
        "BindPaths=\"/srv/vm 1/root.img\"\n"
        "BindReadOnlyPaths=\"/srv/data%%.img\"\n"
        "DeviceAllow=\"/dev/vg/lv\" rw\n"
        "DeviceAllow=\"/dev/vg/ro\" r\n"
    );
}

TEST(DropIn, ADriveMayBeTheDeviceOfAnOverlay) {
    image::Manifest manifest;
    manifest.drives = {
        {.id = "root", .path = "root 1.img"},
        {.id = "lv", .path = "/dev/vg/a:b"},
        {.id = "ro", .path = "/srv/ro%.img", .read_only = true},
    };
    const auto settings_of = [&](const std::string& drive) {
        const auto text = drop_in_text("a-b", manifest, "/img", {.rootfs_drive = drive});
        return text.substr(text.find("BindReadOnlyPaths=\"/img\"\n") + 25);
    };
    EXPECT_EQ(
        settings_of("root"), "DeviceAllow=/dev/thaw/a-b rw\n"
                             "BindPaths=/dev/thaw/a-b:\"/run/thaw/vm/a-b/root 1.img\"\n"
                             "DeviceAllow=\"/dev/vg/a:b\" rw\n"
                             "BindReadOnlyPaths=\"/srv/ro%%.img\"\n"
    );
    EXPECT_EQ(
        settings_of("lv"), "DeviceAllow=/dev/thaw/a-b rw\n"
                           "BindPaths=/dev/thaw/a-b:\"/dev/vg/a:b\"\n"
                           "BindReadOnlyPaths=\"/srv/ro%%.img\"\n"
    );
    EXPECT_EQ(
        settings_of("ro"), "DeviceAllow=\"/dev/vg/a:b\" rw\n"
                           "DeviceAllow=/dev/thaw/a-b r\n"
                           "BindReadOnlyPaths=/dev/thaw/a-b:\"/srv/ro%%.img\"\n"
    );
}

TEST(DropIn, EachVmHasAUserOfItsOwn) {
    EXPECT_EQ(vmm_user("web"), "thaw-vm-web");
    const std::string longest(22, 'x');
    EXPECT_EQ(vmm_user(longest), "thaw-vm-" + longest);
    const std::string first(63, 'x');
    const std::string second = std::string(62, 'x') + "y";
    EXPECT_EQ(vmm_user(first).size(), 31U);
    EXPECT_EQ(vmm_user(first).substr(0, 19), "thaw-vm-xxxxxxxxxx-");
    EXPECT_NE(vmm_user(first), vmm_user(second));
    EXPECT_EQ(vmm_user(longest + "x").size(), 31U);
}

class DropInFileTest : public ::testing::Test {
protected:
    test::TemporaryDirectory folder_;
    std::string path_ = folder_ / "thaw-firecracker@a.service.d/50-thaw.conf";
};

TEST_F(DropInFileTest, ComesAndGoesWithItsFolder) {
    ASSERT_TRUE(write_drop_in(path_, "one\n"));
    ASSERT_TRUE(write_drop_in(path_, "two\n"));
    std::ifstream file(path_);
    std::ostringstream text;
    text << file.rdbuf();
    EXPECT_EQ(text.str(), "two\n");
    ASSERT_TRUE(remove_drop_in(path_));
    EXPECT_TRUE(fs::is_empty(folder_.path()));
    EXPECT_TRUE(remove_drop_in(path_));
}

TEST_F(DropInFileTest, AnAdminsDropInStays) {
    ASSERT_TRUE(write_drop_in(path_, "one\n"));
    const auto other = fs::path(path_).parent_path() / "90-admin.conf";
    std::ofstream(other) << "x";
    ASSERT_TRUE(remove_drop_in(path_));
    EXPECT_FALSE(fs::exists(path_));
    EXPECT_TRUE(fs::exists(other));
}

// systemd looks into the folder again only when its time stamp has moved.
TEST_F(DropInFileTest, TheTimeStampMovesWithEveryDropIn) {
    timespec last = {};
    for (int i = 0; i < 50; ++i) {
        ASSERT_TRUE(
            write_drop_in(fmt::format("{}/u{}.service.d/50-thaw.conf", folder_.path(), i), "x")
        );
        struct stat st = {};
        ASSERT_EQ(stat(folder_.path().c_str(), &st), 0);
        EXPECT_TRUE(st.st_mtim.tv_sec != last.tv_sec || st.st_mtim.tv_nsec != last.tv_nsec) << i;
        last = st.st_mtim;
    }
}

std::string rootfs_text(std::string_view vm, const RootfsRequest& request, const char* images) {
    return rootfs_drop_in_text(vm, request, base_on_this_host(request, images));
}

TEST(DropIn, ARootFileSystemBelongsToItsVm) {
    const RootfsRequest request{
        .base = "rootfs $x.raw",
        .size = 1 << 20,
        .memory_max = 4096,
        .disk_max = std::nullopt,
        .durable = false,
    };
    EXPECT_EQ(
        rootfs_text("a-b", request, "/var/lib/thaw/images/base"),
        "# Written by thaw-restored for one start; removed when the VM has ended.\n"
        "[Unit]\n"
        "Before=thaw-firecracker@a\\x2db.service\n"
        "[Service]\n"
        "ExecStart=\n"
        "ExecStart=" THAW_LIBEXECDIR
        "/thaw-rootfs \"name=a-b\" \"base=/var/lib/thaw/images/base/rootfs $$x.raw\" "
        "\"size=1048576\" \"memory=4096\" \"spill=/var/lib/thaw/rootfs/a-b\"\n"
        "User=thaw-fs-a-b\n"
        "Slice=thaw-a\\x2db.slice\n"
        "LogExtraFields=THAW_INSTANCE=a-b\n"
    );
    const auto durable =
        rootfs_text("x", {.base = "/srv/base", .memory_max = 1, .durable = true}, "/i");
    EXPECT_NE(
        durable.find("\"base=/srv/base\" \"durable=/var/lib/thaw/rootfs/x\"\n"), std::string::npos
    ) << durable;
    EXPECT_EQ(durable.find("DeviceAllow"), std::string::npos);
    EXPECT_NE(
        rootfs_text("x", {.base = "/dev/vg/base"}, "/i")
            .find("PrivateDevices=no\nDeviceAllow=\"/dev/vg/base\" r\n"),
        std::string::npos
    );
    EXPECT_NE(durable.find("Restart=on-failure\n"), std::string::npos);
}

TEST(DropIn, ABaseThatIsNotHereIsReadFromThePager) {
    RootfsBase base;
    base.socket = "/run/thaw/pager/rootfs/web.sock";
    base.digest = "0123";
    base.image = "web-image";
    const auto text = rootfs_drop_in_text("web", {.base = "rootfs"}, base);
    EXPECT_NE(
        text.find("/thaw-rootfs \"name=web\" \"base-socket=/run/thaw/pager/rootfs/web.sock\" "
                  "\"base-digest=0123\" \"base-image=web-image\" \"spill="),
        std::string::npos
    ) << text;
    EXPECT_EQ(text.find("\"base="), std::string::npos);
}

} // namespace
} // namespace thaw::restore
