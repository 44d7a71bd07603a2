// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

// In a mount namespace of a child, so that nothing stays mounted. 0: held, 1: did not, 77: not
// allowed to mount here.
int remove_tree_with_mount_inside(const TemporaryDirectory& folder) {
    if (unshare(CLONE_NEWNS) < 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0)
        return 77;
    const std::string source = folder / "outside";
    if (mount(source.c_str(), (folder / "tree/mounted").c_str(), nullptr, MS_BIND, nullptr) < 0)
        return 77;
    const auto removed = remove_tree(folder / "tree");
    const bool held = !removed && exists(folder / "outside/file");
    return held ? 0 : 1;
}

TEST(RemoveTree, StopsAtMounts) {
    const TemporaryDirectory folder;
    folder.write("outside/file", "precious");
    ASSERT_TRUE(make_directories(folder / "tree/mounted"));
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) _exit(remove_tree_with_mount_inside(folder));
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no mount namespaces here";
    EXPECT_EQ(status, 0);
}

} // namespace
} // namespace thaw
