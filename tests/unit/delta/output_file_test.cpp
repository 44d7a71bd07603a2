// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "delta/output_file.hpp"
#include "fixture.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace thaw::delta::test {
namespace {

using thaw::test::TemporaryDirectory;

TEST(OutputFile, NothingIsSeenBeforeItIsWhole) {
    const TemporaryDirectory folder;
    {
        auto file = OutputFile::create(folder / "out", Existing::Refuse, 0640);
        ASSERT_TRUE(file) << file.error().message();
        ASSERT_TRUE(write_all(file->fd(), "whole"));
        EXPECT_NE(::access((folder / "out").c_str(), F_OK), 0);
        ASSERT_TRUE(file->publish());
    }
    EXPECT_EQ(read_file(folder / "out").value(), "whole");
    struct stat st{};
    ASSERT_EQ(::stat((folder / "out").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0640U);
    EXPECT_EQ(folder.entries(), 1U);
}

TEST(OutputFile, GoneUnlessPublished) {
    const TemporaryDirectory folder;
    {
        auto file = OutputFile::create(folder / "out", Existing::Refuse);
        ASSERT_TRUE(file && write_all(file->fd(), "half"));
    }
    EXPECT_EQ(folder.entries(), 0U);
}

TEST(OutputFile, ReplacesOnlyWhenAskedTo) {
    const TemporaryDirectory folder;
    folder.write("out", "old");
    const auto refused = OutputFile::create(folder / "out", Existing::Refuse);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), EEXIST);
    auto file = OutputFile::create(folder / "out", Existing::Replace);
    ASSERT_TRUE(file && write_all(file->fd(), "new"));
    EXPECT_EQ(read_file(folder / "out").value(), "old");
    ASSERT_TRUE(file->publish());
    EXPECT_EQ(read_file(folder / "out").value(), "new");
    EXPECT_EQ(folder.entries(), 1U);
}

TEST(OutputFile, ANameTakenMeanwhileIsNotOverwritten) {
    const TemporaryDirectory folder;
    auto file = OutputFile::create(folder / "out", Existing::Refuse);
    ASSERT_TRUE(file);
    folder.write("out", "somebody's");
    const auto published = file->publish();
    ASSERT_FALSE(published);
    EXPECT_EQ(published.error().code(), EEXIST);
    EXPECT_EQ(read_file(folder / "out").value(), "somebody's");
}

TEST(OutputFile, FoldersAndLinksAreNoFiles) {
    const TemporaryDirectory folder;
    EXPECT_EQ(OutputFile::create(folder.path() + "/", Existing::Replace).error().code(), EISDIR);
    std::filesystem::create_directory(folder / "d");
    EXPECT_EQ(OutputFile::create(folder / "d", Existing::Replace).error().code(), EEXIST);
    std::filesystem::create_symlink("/etc/passwd", folder / "l");
    EXPECT_EQ(OutputFile::create(folder / "l", Existing::Replace).error().code(), EEXIST);
    EXPECT_EQ(OutputFile::create(folder / "x/y", Existing::Replace).error().code(), ENOENT);
}

// Killed at any time, nothing stays: with O_TMPFILE nothing had a name.
TEST(OutputFile, AKilledWriterLeavesNothing) {
    const TemporaryDirectory folder;
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        auto file = OutputFile::create(folder / "out", Existing::Refuse);
        if (file) static_cast<void>(write_all(file->fd(), "half"));
        ::raise(SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(folder.entries(), 0U);
}

// Where nothing can be without a name, the next one clears away what a killed one left, and only
// that.
TEST(OutputFile, LeftoversOfTheDeadAreCleared) {
    const TemporaryDirectory folder;
    folder.write(".#thaw-delta-0123456789abcdef", "of a dead one");
    folder.write(".#thaw-delta-fedcba9876543210", "of a living one");
    folder.write("other", "somebody's");
    const auto held = open_file(folder / ".#thaw-delta-fedcba9876543210", O_RDWR);
    ASSERT_TRUE(held);
    ASSERT_EQ(::flock(held->get(), LOCK_EX), 0);
    ASSERT_TRUE(OutputFile::create(folder / "out", Existing::Refuse));
    EXPECT_NE(::access((folder / ".#thaw-delta-0123456789abcdef").c_str(), F_OK), 0);
    EXPECT_EQ(::access((folder / ".#thaw-delta-fedcba9876543210").c_str(), F_OK), 0);
    EXPECT_EQ(folder.entries(), 2U);
}

} // namespace
} // namespace thaw::delta::test
