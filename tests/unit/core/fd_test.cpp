// SPDX-License-Identifier: MIT
#include "core/fd.hpp"
#include "core/file.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

namespace thaw {
namespace {

bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

Fd open_null() {
    return open_file("/dev/null", O_RDWR).value();
}

TEST(Fd, ClosesOnDestructionAndKeepsErrno) {
    int number = -1;
    errno = ENOTTY;
    {
        const Fd fd = open_null();
        number = fd.get();
        EXPECT_TRUE(is_open(number));
        errno = ENOTTY;
    }
    EXPECT_EQ(errno, ENOTTY);
    EXPECT_FALSE(is_open(number));
}

TEST(Fd, MovingPassesOwnershipOn) {
    Fd first = open_null();
    const int number = first.get();
    Fd second = std::move(first);
    EXPECT_EQ(second.get(), number);
    Fd third = open_null();
    const int old = third.get();
    third = std::move(second);
    EXPECT_FALSE(is_open(old));
    EXPECT_TRUE(is_open(number));
    Fd& alias = third;
    third = std::move(alias); // to itself
    EXPECT_TRUE(is_open(number));
    EXPECT_EQ(third.release(), number);
    EXPECT_FALSE(third);
    EXPECT_TRUE(is_open(number));
    third.reset(number);
    third.reset(number); // the same number again is no reason to close it
    EXPECT_TRUE(is_open(number));
}

TEST(Fd, DuplicateIsCloseOnExecAndNeverAStandardStream) {
    const Fd fd = open_null();
    const Fd copy = fd.duplicate().value();
    EXPECT_NE(copy.get(), fd.get());
    EXPECT_GE(copy.get(), 3);
    EXPECT_TRUE(fcntl(copy.get(), F_GETFD) & FD_CLOEXEC);
    EXPECT_EQ(Fd().duplicate().error().code(), EBADF);
}

TEST(Fd, Flags) {
    const Fd fd = open_null();
    ASSERT_TRUE(set_cloexec(fd.get(), false));
    EXPECT_FALSE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC);
    ASSERT_TRUE(set_cloexec(fd.get(), true));
    EXPECT_TRUE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC);
    ASSERT_TRUE(set_nonblocking(fd.get(), true));
    EXPECT_TRUE(fcntl(fd.get(), F_GETFL) & O_NONBLOCK);
    ASSERT_TRUE(set_nonblocking(fd.get(), false));
    EXPECT_FALSE(fcntl(fd.get(), F_GETFL) & O_NONBLOCK);
    EXPECT_EQ(set_nonblocking(-1, true).error().code(), EBADF);
}

TEST(FdDeathTest, ClosingWhatSomebodyElseClosedIsABrokenInvariant) {
    EXPECT_DEATH(
        {
            const Fd fd = open_null();
            close(fd.get());
        },
        "broken invariant"
    );
}

} // namespace
} // namespace thaw
