// SPDX-License-Identifier: MIT
#include "core/names.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <array>
#include <cstdio>
#include <memory>

namespace thaw {
namespace {

TEST(VmName, Rules) {
    for (const char* good : {"a", "A9", "web-1", "0", "a--b", "a-"})
        EXPECT_TRUE(is_valid_vm_name(good)) << good;
    for (const char* bad : {"", "-a", ".", "..", "a.b", "a_b", "a/b", "a b", "\xc3\xa4", "a\n"})
        EXPECT_FALSE(is_valid_vm_name(bad)) << bad;
    EXPECT_TRUE(is_valid_vm_name(std::string(63, 'x')));
    EXPECT_FALSE(is_valid_vm_name(std::string(64, 'x')));
    EXPECT_FALSE(is_valid_vm_name(std::string_view("a\0b", 3)));
}

TEST(VmName, ItsUnitFitsIntoAFileName) {
    const std::string dashes = "a" + std::string(62, '-');
    EXPECT_FALSE(is_valid_vm_name(dashes));
    for (std::size_t n = 1; n <= dashes.size(); ++n) {
        const auto name = dashes.substr(0, n);
        EXPECT_EQ(is_valid_vm_name(name), (vmm_unit(name) + ".d").size() <= 255) << n;
    }
}

TEST(ImageName, IsOnePathComponent) {
    for (const char* good : {"debian-12", "a.b_c", "1", "a..b"})
        EXPECT_TRUE(is_valid_image_name(good)) << good;
    for (const char* bad : {"", ".", "..", ".hidden", "a/b", "-x", "_x", "a b"})
        EXPECT_FALSE(is_valid_image_name(bad)) << bad;
    EXPECT_TRUE(is_valid_image_name(std::string(128, 'x')));
    EXPECT_FALSE(is_valid_image_name(std::string(129, 'x')));
}

TEST(ShareTag, Rules) {
    for (const char* good : {"a", "_x", "home-me", "a.b_c", "A9"})
        EXPECT_TRUE(is_valid_share_tag(good)) << good;
    for (const char* bad : {"", ".a", "-a", "a/b", "a b", "a:b", "..", "\xc3\xa4", "a\n"})
        EXPECT_FALSE(is_valid_share_tag(bad)) << bad;
    EXPECT_TRUE(is_valid_share_tag(std::string(36, 'x')));
    EXPECT_FALSE(is_valid_share_tag(std::string(37, 'x')));
}

TEST(ShareUnit, EscapesBothPartsOfTheInstance) {
    EXPECT_EQ(share_service("a-b", "c-d"), "thaw-virtiofsd@a\\x2db:c\\x2dd.service");
    EXPECT_EQ(share_socket_unit("vm", "tag"), "thaw-virtiofsd@vm:tag.socket");
    EXPECT_TRUE(is_valid_share_name("a-b", "c-d"));
    EXPECT_FALSE(is_valid_share_name("a/b", "c"));
    EXPECT_FALSE(is_valid_share_name("a", "c/d"));
    const std::string vm = "a" + std::string(50, '-');
    ASSERT_TRUE(is_valid_vm_name(vm));
    EXPECT_FALSE(is_valid_share_name(vm, "t" + std::string(30, '-')));
}

TEST(ShareSocket, AlwaysFitsIntoASocketAddress) {
    EXPECT_EQ(paths::share_socket("vm", "tag"), "/run/thaw/shares/vm/tag.sock");
    const std::string vm(63, 'v');
    const auto one = paths::share_socket(vm, std::string(36, 'x'));
    const auto two = paths::share_socket(vm, std::string(35, 'x') + "y");
    EXPECT_LE(one.size(), 107U);
    EXPECT_TRUE(one.starts_with("/run/thaw/shares/" + vm + "/.")) << one;
    EXPECT_NE(one, two);
}

TEST(UnitEscape, Examples) {
    EXPECT_EQ(unit_escape("plain"), "plain");
    EXPECT_EQ(unit_escape("a-b"), "a\\x2db");
    EXPECT_EQ(unit_escape("a/b"), "a-b");
    EXPECT_EQ(unit_escape(".a.b"), "\\x2ea.b");
    EXPECT_EQ(unit_escape("a\\b"), "a\\x5cb");
    EXPECT_EQ(unit_escape("\xc3\xa4 "), "\\xc3\\xa4\\x20");
    EXPECT_EQ(unit_escape(""), "");
}

TEST(UnitUnescape, ReversesAndRefusesRubbish) {
    for (const std::string text : {"a-b", "/a/b", ".x", "a\\x2d", "\xff\x01", "web-1"})
        EXPECT_EQ(unit_unescape(unit_escape(text)).value(), text);
    for (const char* bad : {"a\\", "a\\x", "a\\x2", "a\\xzz", "a\\y2d", "a\\x00"})
        EXPECT_EQ(unit_unescape(bad).error().code(), EINVAL) << bad;
    for (const std::string& raw : {std::string("a\0b", 3), std::string("a b"), std::string("\xff")})
        EXPECT_EQ(unit_unescape(raw).error().code(), EINVAL) << raw;
}

struct PipeCloser {
    void operator()(std::FILE* file) const { pclose(file); }
};

std::string systemd_escape(const std::string& name) {
    // Single quotes: none of the names below has one.
    const std::string command = "systemd-escape -- '" + name + "'";
    // NOLINTNEXTLINE(cert-env33-c): a fixed command
    const std::unique_ptr<std::FILE, PipeCloser> pipe(popen(command.c_str(), "re"));
    std::array<char, 512> line = {};
    if (!pipe || !std::fgets(line.data(), line.size(), pipe.get())) return "";
    std::string text = line.data();
    if (text.ends_with('\n')) text.pop_back();
    return text;
}

TEST(UnitEscape, IsWhatSystemdDoes) {
    if (access("/usr/bin/systemd-escape", X_OK) != 0) GTEST_SKIP() << "no systemd-escape here";
    for (const std::string name :
         {"a", "a-b", "--", "a/b", "/", "//x", ".a", "a.b", "a:b_c", "a\\x2db", "\xc3\xa4", "a b",
          "@%+,=~", "-", "..", "./."})
        EXPECT_EQ(unit_escape(name), systemd_escape(name)) << name;
    std::string printable;
    for (char c = ' '; c < 0x7f; ++c)
        if (c != '\'') printable += c;
    EXPECT_EQ(unit_escape(printable), systemd_escape(printable));
}

TEST(Units, OfAVmAndBack) {
    EXPECT_EQ(vmm_unit("a-b"), "thaw-firecracker@a\\x2db.service");
    EXPECT_EQ(vm_slice("a-b"), "thaw-a\\x2db.slice");
    EXPECT_EQ(vm_of_vmm_unit("thaw-firecracker@a\\x2db.service").value(), "a-b");
    for (const char* bad :
         {"", "thaw-firecracker@.service", "thaw-firecracker@a", "other@a.service",
          "thaw-firecracker@a-b.service",     // is "a/b"
          "thaw-firecracker@\\x61.service",   // a second spelling of "a"
          "thaw-firecracker@a\\x2Db.service", // a second spelling of "a-b"
          "thaw-firecracker@a\\x2.service", "thaw-firecracker@\\x2da.service", "@.service",
          "thaw-firecracker.service"})
        EXPECT_EQ(vm_of_vmm_unit(bad).error().code(), EINVAL) << bad;
}

TEST(Paths, OfAVm) {
    EXPECT_EQ(paths::vm_directory("a-b"), "/run/thaw/vm/a-b");
    EXPECT_EQ(paths::vm_api_socket("a-b"), "/run/thaw/vm/a-b/api.sock");
    EXPECT_EQ(paths::pager_directory("a-b"), "/run/thaw/pager/vm/a-b");
    EXPECT_EQ(paths::pager_socket("a-b"), "/run/thaw/pager/vm/a-b/uffd.sock");
    EXPECT_EQ(paths::restore_ticket("a-b"), "/run/thaw/restore/a\\x2db.ticket");
    EXPECT_EQ(
        paths::vm_drop_in("a-b"),
        "/run/systemd/system/thaw-firecracker@a\\x2db.service.d/50-thaw.conf"
    );
}

} // namespace
} // namespace thaw
