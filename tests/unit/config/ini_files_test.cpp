// SPDX-License-Identifier: MIT
#include "config/ini.hpp"
#include "temporary_directory.hpp"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

namespace thaw {
namespace {

class ConfigFiles : public testing::Test {
protected:
    Result<std::vector<ConfigWarning>> read() {
        words_.clear();
        return read_config(location_, {{"S", "W", config_words(&words_)}});
    }
    // The words that arrived, in the order of the files.
    std::string order() {
        const auto warnings = read();
        EXPECT_TRUE(warnings && warnings->empty());
        return fmt::format("{}", fmt::join(words_, " "));
    }
    void add(std::string_view name, std::string_view word) const {
        folder_.write(name, fmt::format("[S]\nW={}\n", word));
    }

    test::TemporaryDirectory folder_;
    ConfigLocation location_ = {
        .file = folder_ / "etc/x.conf",
        .drop_ins = {folder_ / "usr/x.conf.d", folder_ / "run/x.conf.d", folder_ / "etc/x.conf.d"},
    };
    std::vector<std::string> words_;
};

TEST_F(ConfigFiles, NothingThereIsFine) {
    EXPECT_EQ(order(), "");
}

TEST_F(ConfigFiles, DropInsComeAfterTheFileSortedByName) {
    add("etc/x.conf", "main");
    add("usr/x.conf.d/50-b.conf", "b");
    add("etc/x.conf.d/10-a.conf", "a");
    add("run/x.conf.d/90-c.conf", "c");
    EXPECT_EQ(order(), "main a b c");
}

TEST_F(ConfigFiles, ALaterFolderMasksTheSameName) {
    add("usr/x.conf.d/10.conf", "vendor");
    add("usr/x.conf.d/20.conf", "vendor2");
    add("run/x.conf.d/10.conf", "runtime");
    EXPECT_EQ(order(), "runtime vendor2");
    add("etc/x.conf.d/10.conf", "admin");
    EXPECT_EQ(order(), "admin vendor2");
}

TEST_F(ConfigFiles, ALinkToNullOrAnEmptyFileMasks) {
    add("usr/x.conf.d/10.conf", "vendor");
    add("usr/x.conf.d/20.conf", "vendor2");
    folder_.write("etc/x.conf.d/20.conf", "");
    ASSERT_EQ(symlink("/dev/null", (folder_ / "etc/x.conf.d/10.conf").c_str()), 0);
    EXPECT_EQ(order(), "");
}

TEST_F(ConfigFiles, OnlyConfFilesThatAreNotHidden) {
    add("etc/x.conf.d/a.conf", "yes");
    add("etc/x.conf.d/.hidden.conf", "hidden");
    add("etc/x.conf.d/a.conf.dpkg-old", "old");
    add("etc/x.conf.d/b.conf~", "backup");
    EXPECT_EQ(order(), "yes");
}

TEST_F(ConfigFiles, WarningsNameTheirFile) {
    folder_.write("etc/x.conf", "[S]\nBad=1\n");
    folder_.write("run/x.conf.d/1.conf", "\n\nText\n");
    const auto warnings = read().value();
    ASSERT_EQ(warnings.size(), 2U);
    EXPECT_EQ(warnings[0].file, folder_ / "etc/x.conf");
    EXPECT_EQ(warnings[0].line, 2U);
    EXPECT_EQ(warnings[1].file, folder_ / "run/x.conf.d/1.conf");
    EXPECT_EQ(warnings[1].line, 3U);
}

TEST_F(ConfigFiles, WhatCannotBeReadIsAnError) {
    folder_.write("etc/x.conf.d/ok.conf", "");
    const auto path = folder_ / "etc/x.conf.d/fifo.conf";
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    EXPECT_EQ(read().error().code(), EINVAL); // at once, not when somebody writes
    ASSERT_EQ(unlink(path.c_str()), 0);
    ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
    EXPECT_EQ(read().error().code(), EINVAL);
    ASSERT_EQ(rmdir(path.c_str()), 0);
    ASSERT_EQ(symlink("fifo.conf", path.c_str()), 0);
    EXPECT_EQ(read().error().code(), ELOOP);
    ASSERT_EQ(unlink(path.c_str()), 0);
    folder_.write("etc/x.conf.d/big.conf", std::string((1 << 20) + 1, '#'));
    const auto big = read();
    EXPECT_EQ(big.error().code(), EFBIG);
    EXPECT_NE(big.error().message().find("big.conf"), std::string::npos);
}

TEST(ConfigLocation, OfADaemon) {
    const auto location = ConfigLocation::of_daemon("pagerd");
    EXPECT_TRUE(location.file.ends_with("/thaw/pagerd.conf"));
    ASSERT_EQ(location.drop_ins.size(), 3U);
    EXPECT_EQ(location.drop_ins[0], "/usr/lib/thaw/pagerd.conf.d");
    EXPECT_EQ(location.drop_ins[1], "/run/thaw/pagerd.conf.d");
    EXPECT_EQ(location.drop_ins[2], location.file + ".d");
}

TEST(ConfigLocation, TheEnvironmentNamesAnother) {
    ASSERT_EQ(setenv("THAW_PAGERD_CONFIG", "/some/file", 1), 0);
    const auto named = ConfigLocation::of_daemon("pagerd");
    const auto other = ConfigLocation::of_daemon("sharesd");
    ASSERT_EQ(unsetenv("THAW_PAGERD_CONFIG"), 0);
    EXPECT_EQ(named.file, "/some/file");
    EXPECT_EQ(named.drop_ins, std::vector<std::string>{"/some/file.d"});
    EXPECT_TRUE(other.file.ends_with("/thaw/sharesd.conf"));
}

} // namespace
} // namespace thaw
