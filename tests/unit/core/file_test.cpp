// SPDX-License-Identifier: MIT
#include "confined_child.hpp"
#include "core/file.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace thaw {
namespace {

using test::TemporaryDirectory;

Fd open_directory(const std::string& path) {
    return open_file(path, O_RDONLY | O_DIRECTORY).value();
}

mode_t mode_of(const std::string& path) {
    struct stat st = {};
    EXPECT_EQ(lstat(path.c_str(), &st), 0);
    return st.st_mode & 07777;
}

TEST(OpenFile, IsCloseOnExecAndNamesThePathInErrors) {
    const Fd fd = open_file("/dev/null", O_RDONLY).value();
    EXPECT_TRUE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC);
    const auto missing = open_file("/nonexistent/file", O_RDONLY);
    EXPECT_EQ(missing.error().code(), ENOENT);
    EXPECT_EQ(missing.error().message(), "open /nonexistent/file: No such file or directory");
}

TEST(OpenBeneath, OpensAndCreatesBelow) {
    const TemporaryDirectory folder;
    folder.write("a/b", "text");
    const Fd directory = open_directory(folder.path());
    EXPECT_TRUE(open_beneath(directory.get(), "a/b", O_RDONLY));
    // A mode without O_CREAT is EINVAL for openat2(); callers need not care.
    EXPECT_TRUE(open_beneath(directory.get(), "a/b", O_RDONLY, 0644));
    const auto made = open_beneath(directory.get(), "new", O_WRONLY | O_CREAT | O_EXCL, 0600);
    ASSERT_TRUE(made) << made.error().message();
    EXPECT_EQ(mode_of(folder / "new"), 0600U);
    EXPECT_TRUE(fcntl(made->get(), F_GETFD) & FD_CLOEXEC);
    EXPECT_TRUE(open_beneath(directory.get(), ".", O_RDWR | O_TMPFILE, 0600));
}

// The first name that does not answer what it must, or "".
std::string first_way_out() {
    const TemporaryDirectory folder;
    folder.write("inside/file", "mine");
    folder.write("inside/sub/file", "mine");
    const std::string secret = folder.write("secret", "not yours");
    const auto link = [&](const char* target, const char* name) {
        return symlink(target, (folder / name).c_str()) == 0;
    };
    if (!link(secret.c_str(), "inside/absolute") || !link("../secret", "inside/relative") ||
        !link("file", "inside/harmless") || !link("..", "inside/folder"))
        return "no links";
    const Fd directory = open_directory(folder / "inside");
    const std::vector<std::pair<std::string, int>> expected = {
        {"file", 0},         {"sub/file", 0},
        {"./sub//file", 0},  {"../secret", EXDEV},
        {secret, EXDEV},     {"sub/../../secret", EXDEV},
        {"absolute", ELOOP}, {"relative", ELOOP},
        {"harmless", ELOOP}, {"folder/secret", ELOOP},
        {"nothing", ENOENT}, {"file/below", ENOTDIR},
        {"", ENOENT},
    };
    for (const auto& [name, code] : expected) {
        const auto fd = open_beneath(directory.get(), name, O_RDONLY);
        if ((fd ? 0 : fd.error().code()) != code) return name + " answers wrongly";
    }
    // A magic link jumps to an open file without walking any path.
    const Fd fd = open_file(secret, O_RDONLY).value();
    const Fd proc = open_directory("/proc/self/fd");
    const auto magic = open_beneath(proc.get(), std::to_string(fd.get()), O_RDONLY);
    return !magic && magic.error().code() == ELOOP ? "" : "a magic link was followed";
}

TEST(OpenBeneath, NoWayOut) {
    EXPECT_EQ(first_way_out(), "");
}

TEST(OpenBeneath, NoWayOutWithoutOpenat2) {
    EXPECT_EQ(test::without_openat2(first_way_out), "");
}

TEST(ReadFile, LimitIsExact) {
    const TemporaryDirectory folder;
    const std::string big(40000, 'x');
    const auto path = folder.write("big", big);
    EXPECT_EQ(read_file(path).value(), big);
    EXPECT_EQ(read_file(path, 40000).value(), big);
    EXPECT_EQ(read_file(path, 39999).error().code(), EFBIG);
    EXPECT_EQ(read_file(path, 0).error().code(), EFBIG);
    EXPECT_EQ(read_file(folder.write("empty", ""), 0).value(), "");
    EXPECT_EQ(read_file(folder.path()).error().code(), EISDIR);
    EXPECT_EQ(read_file("/dev/zero", 100000).error().code(), EFBIG);
}

TEST(ReadFile, FilesWithoutASize) {
    // stat() says 0 for files of /proc; the content is there nevertheless.
    EXPECT_NE(read_file("/proc/self/status").value().find("Pid:"), std::string::npos);
}

TEST(PreadExact, AShortFileIsAnErrorAndNotZeros) {
    const TemporaryDirectory folder;
    const Fd fd = open_file(folder.write("f", "0123456789"), O_RDONLY).value();
    std::array<std::byte, 4> buffer = {};
    ASSERT_TRUE(pread_exact(fd.get(), buffer, 6));
    EXPECT_EQ(buffer[3], std::byte{'9'});
    const auto truncated = pread_exact(fd.get(), buffer, 7);
    EXPECT_EQ(truncated.error().code(), EIO);
    EXPECT_EQ(truncated.error().message(), "truncated: 3 of 4 bytes at offset 7");
    EXPECT_EQ(pread_exact(fd.get(), buffer, 1000).error().code(), EIO);
    EXPECT_EQ(pread_exact(fd.get(), buffer, UINT64_MAX).error().code(), EINVAL);
    EXPECT_EQ(pread_exact(fd.get(), buffer, INT64_MAX - 3).error().code(), EINVAL);
    EXPECT_EQ(pread_exact(-1, buffer, 0).error().code(), EBADF);
}

TEST(WriteAll, NoSpace) {
    const Fd full = open_file("/dev/full", O_WRONLY).value();
    EXPECT_EQ(write_all(full.get(), "x").error().code(), ENOSPC);
}

void ignore_signal(int) {}

TEST(WriteAll, PartialWritesAndInterruptionsGoOn) {
    // More than a pipe holds, with a signal every millisecond and a slow reader.
    std::array<int, 2> ends = {};
    ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    const Fd reader(ends[0]);
    Fd writer(ends[1]);
    const std::string data(1 << 20, 'd');
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        struct sigaction action = {};
        action.sa_handler = ignore_signal; // no SA_RESTART: calls do return EINTR
        sigaction(SIGALRM, &action, nullptr);
        const itimerval tick = {.it_interval = {0, 1000}, .it_value = {0, 1000}};
        setitimer(ITIMER_REAL, &tick, nullptr);
        _exit(write_all(writer.get(), data) ? 0 : 1);
    }
    writer.reset();
    usleep(20000);
    EXPECT_EQ(read_fd(reader.get(), 2 << 20).value(), data);
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST(WriteFileAtomic, ReplacesWithExactlyTheMode) {
    const TemporaryDirectory folder;
    const auto path = folder.write("record", "old");
    const mode_t umask_before = umask(0077);
    const auto written = write_file_atomic(path, "new", 0664, Durability::Disk);
    umask(umask_before);
    ASSERT_TRUE(written) << written.error().message();
    EXPECT_EQ(read_file(path).value(), "new");
    EXPECT_EQ(mode_of(path), 0664U);
    EXPECT_EQ(folder.entries(), 1U);
}

TEST(WriteFileAtomic, AtADirectoryAndWithTheLongestName) {
    const TemporaryDirectory folder;
    folder.write("sub/x", "");
    const Fd directory = open_directory(folder.path());
    const std::string longest(255, 'n');
    ASSERT_TRUE(write_file_atomic_at(directory.get(), longest, "1"));
    ASSERT_TRUE(write_file_atomic_at(directory.get(), "sub/y", "2"));
    EXPECT_EQ(read_file(folder / longest).value(), "1");
    EXPECT_EQ(read_file(folder / "sub/y").value(), "2");
}

TEST(WriteFileAtomic, ASymlinkIsReplacedNotFollowed) {
    const TemporaryDirectory folder;
    const auto victim = folder.write("victim", "precious");
    ASSERT_EQ(symlink(victim.c_str(), (folder / "link").c_str()), 0);
    ASSERT_TRUE(write_file_atomic(folder / "link", "new"));
    EXPECT_EQ(read_file(victim).value(), "precious");
}

TEST(WriteFileAtomic, FailureLeavesTheOldFileAndNothingElse) {
    const TemporaryDirectory folder;
    const auto path = folder.write("record", "old");
    // The smallest file system that fills up: a limit on the size of files.
    const rlimit before = [] {
        rlimit limit = {};
        getrlimit(RLIMIT_FSIZE, &limit);
        return limit;
    }();
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const auto failed = write_file_atomic(path, std::string(10000, 'x'));
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code(), EFBIG);
    EXPECT_EQ(read_file(path).value(), "old");
    EXPECT_EQ(folder.entries(), 1U);

    ASSERT_EQ(mkdir((folder / "folder").c_str(), 0755), 0);
    EXPECT_FALSE(write_file_atomic(folder / "folder", "x"));
    EXPECT_EQ(folder.entries(), 2U);
    EXPECT_EQ(write_file_atomic(folder / "none/x", "x").error().code(), ENOENT);
}

TEST(RemoveIfExists, IsContentWithNothing) {
    const TemporaryDirectory folder;
    const auto path = folder.write("f", "");
    EXPECT_TRUE(remove_if_exists(path));
    EXPECT_TRUE(remove_if_exists(path));
    EXPECT_EQ(folder.entries(), 0U);
    EXPECT_FALSE(remove_if_exists(folder.path()));
}

TEST(Identify, FollowsTheFileNotThePath) {
    const TemporaryDirectory folder;
    const auto path = folder.write("f", "12345");
    const Fd fd = open_file(path, O_RDWR).value();
    const auto before = identify(fd.get()).value();
    EXPECT_EQ(before.size, 5U);
    ASSERT_EQ(rename(path.c_str(), (folder / "g").c_str()), 0);
    folder.write("f", "12345");
    EXPECT_EQ(identify(fd.get()).value(), before);
    EXPECT_NE(identify(open_file(path, O_RDONLY)->get()).value(), before);
    ASSERT_TRUE(write_all(fd.get(), "changed"));
    EXPECT_NE(identify(fd.get()).value(), before);
    EXPECT_EQ(identify(-1).error().code(), EBADF);
}

} // namespace
} // namespace thaw
