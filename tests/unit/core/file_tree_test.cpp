// SPDX-License-Identifier: MIT
#include "confined_child.hpp"
#include "core/file.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw {
namespace {

using test::TemporaryDirectory;

bool exists(const std::string& path) {
    struct stat st = {};
    return lstat(path.c_str(), &st) == 0;
}

TEST(MakeDirectories, LikeMkdirMinusP) {
    const TemporaryDirectory folder;
    ASSERT_TRUE(make_directories(folder / "a/b/c", 0700));
    struct stat st = {};
    ASSERT_EQ(stat((folder / "a/b/c").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777U, 0700U);
    EXPECT_TRUE(make_directories(folder / "a/b/c"));
    EXPECT_TRUE(make_directories(folder / "a/b/d/"));
    EXPECT_TRUE(make_directories("/"));
    EXPECT_TRUE(exists(folder / "a/b/d"));
    const auto file = folder.write("file", "");
    EXPECT_EQ(make_directories(file).error().code(), ENOTDIR);
    EXPECT_EQ(make_directories(file + "/x").error().code(), ENOTDIR);
    EXPECT_EQ(make_directories("").error().code(), EINVAL);
}

TEST(RemoveTree, RemovesEverythingBelowAndNothingBehindSymlinks) {
    const TemporaryDirectory folder;
    folder.write("outside/file", "precious");
    folder.write("tree/a/b/file", "");
    folder.write("tree/.hidden", "");
    ASSERT_EQ(symlink((folder / "outside").c_str(), (folder / "tree/link").c_str()), 0);
    ASSERT_TRUE(remove_tree(folder / "tree/"));
    EXPECT_FALSE(exists(folder / "tree"));
    EXPECT_TRUE(exists(folder / "outside/file"));

    ASSERT_EQ(symlink((folder / "outside").c_str(), (folder / "link").c_str()), 0);
    ASSERT_TRUE(remove_tree(folder / "link"));
    EXPECT_FALSE(exists(folder / "link"));
    EXPECT_TRUE(exists(folder / "outside/file"));
}

TEST(RemoveTree, IsContentWithNothingAndRefusesSillyNames) {
    const TemporaryDirectory folder;
    EXPECT_TRUE(remove_tree(folder / "none"));
    EXPECT_TRUE(remove_tree(folder / "none/below"));
    EXPECT_TRUE(remove_tree(folder.write("file", "")));
    for (const char* bad : {"", "/", ".", "..", "/tmp/..", "a/."})
        EXPECT_EQ(remove_tree(bad).error().code(), EINVAL) << bad;
}

TEST(RemoveTree, GivesUpOnEndlessDepth) {
    const TemporaryDirectory folder;
    std::string deep = folder / "t";
    for (int i = 0; i < 80; ++i)
        deep += "/d";
    ASSERT_TRUE(make_directories(deep));
    EXPECT_EQ(remove_tree(folder / "t").error().code(), ELOOP);
}

// In a child: its mount namespace ends with it.
std::string enter_other_mount(const TemporaryDirectory& folder) {
    if (unshare(CLONE_NEWNS) < 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0)
        return "no mount namespace";
    const std::string source = folder / "outside";
    if (mount(source.c_str(), (folder / "tree/mounted").c_str(), nullptr, MS_BIND, nullptr) < 0)
        return "no bind mount";
    if (remove_tree(folder / "tree")) return "the mount point was removed";
    return exists(folder / "outside/file") ? "" : "emptied the other mount";
}

void make_tree_with_mount_point(const TemporaryDirectory& folder) {
    folder.write("outside/file", "precious");
    ASSERT_TRUE(make_directories(folder / "tree/mounted"));
}

TEST(RemoveTree, StopsAtMounts) {
    if (geteuid() != 0) GTEST_SKIP() << "only root has mount namespaces";
    const TemporaryDirectory folder;
    make_tree_with_mount_point(folder);
    EXPECT_EQ(test::in_child([&] { return enter_other_mount(folder); }), "");
}

TEST(RemoveTree, StopsAtMountsWithoutOpenat2) {
    if (geteuid() != 0) GTEST_SKIP() << "only root has mount namespaces";
    const TemporaryDirectory folder;
    make_tree_with_mount_point(folder);
    EXPECT_EQ(test::without_openat2([&] { return enter_other_mount(folder); }), "");
}

TEST(RemoveTree, RemovesEverythingBelowWithoutOpenat2) {
    const TemporaryDirectory folder;
    folder.write("outside/file", "precious");
    folder.write("tree/a/b/file", "");
    ASSERT_EQ(symlink((folder / "outside").c_str(), (folder / "tree/link").c_str()), 0);
    const auto wrong = test::without_openat2([&]() -> std::string {
        const auto removed = remove_tree(folder / "tree");
        return removed ? "" : removed.error().message();
    });
    EXPECT_EQ(wrong, "");
    EXPECT_FALSE(exists(folder / "tree"));
    EXPECT_TRUE(exists(folder / "outside/file"));
}

} // namespace
} // namespace thaw
