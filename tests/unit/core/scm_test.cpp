// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "core/scm.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

namespace thaw {
namespace {

using test::TemporaryDirectory;

std::size_t open_descriptors() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
        ++count;
    return count;
}

std::span<const std::byte> bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

Fd dev_null() {
    return open_file("/dev/null", O_RDWR).value();
}

TEST(Scm, DescriptorsArriveOwnedAndCloseOnExec) {
    const auto [a, b] = make_seqpacket_pair(true).value();
    const TemporaryDirectory folder;
    const Fd sent = open_file(folder.write("f", "hello"), O_RDONLY).value();
    const std::size_t before = open_descriptors();
    {
        const std::array fds = {sent.get(), sent.get()};
        EXPECT_EQ(send_message(a.get(), bytes("xyz"), fds).value(), 3U);
        std::array<std::byte, 16> buffer = {};
        const auto message = receive_message(b.get(), buffer, 4).value();
        EXPECT_EQ(message.size, 3U);
        ASSERT_EQ(message.fds.size(), 2U);
        EXPECT_FALSE(message.end_of_stream || message.data_truncated || message.control_truncated);
        EXPECT_TRUE(fcntl(message.fds[1].get(), F_GETFD) & FD_CLOEXEC);
        EXPECT_EQ(read_fd(message.fds[0].get()).value(), "hello");
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST(Scm, TooManyDescriptorsShowAndDoNotLeak) {
    const auto [a, b] = make_seqpacket_pair(true).value();
    const Fd null = dev_null();
    const std::array fds = {null.get(), null.get(), null.get(), null.get()};
    // Odd and even limits: the padding of a control message has room for one more.
    for (const std::size_t limit : {0U, 1U, 2U, 3U}) {
        ASSERT_TRUE(send_message(a.get(), bytes("x"), fds));
        const std::size_t before = open_descriptors();
        std::array<std::byte, 4> buffer = {};
        const auto message = receive_message(b.get(), buffer, limit).value();
        EXPECT_TRUE(message.control_truncated) << limit;
        EXPECT_FALSE(message.end_of_stream);
        EXPECT_EQ(message.fds.size(), limit);
        EXPECT_EQ(open_descriptors(), before + limit);
    }
    ASSERT_TRUE(send_message(a.get(), bytes("x"), fds));
    std::array<std::byte, 4> buffer = {};
    const auto message = receive_message(b.get(), buffer, 4).value();
    EXPECT_FALSE(message.control_truncated);
    EXPECT_EQ(message.fds.size(), 4U);
}

TEST(Scm, LongMessagesShowAsTruncated) {
    const auto [a, b] = make_seqpacket_pair(true).value();
    ASSERT_TRUE(send_message(a.get(), bytes("0123456789")));
    std::array<std::byte, 4> buffer = {};
    const auto message = receive_message(b.get(), buffer, 0).value();
    EXPECT_EQ(message.size, 4U);
    EXPECT_TRUE(message.data_truncated);
    EXPECT_EQ(receive_message(b.get(), buffer, 0).error().code(), EAGAIN);
}

TEST(Scm, EndOfStreamAndClosedPeer) {
    auto [a, b] = make_seqpacket_pair(true).value();
    std::array<std::byte, 4> buffer = {};
    EXPECT_EQ(receive_message(b.get(), buffer, 1).error().code(), EAGAIN);
    a.reset();
    EXPECT_TRUE(receive_message(b.get(), buffer, 1).value().end_of_stream);
    // MSG_NOSIGNAL: an error and no SIGPIPE, which would end this test.
    EXPECT_EQ(send_message(b.get(), bytes("x")).error().code(), EPIPE);
}

TEST(Scm, RefusesWhatTheKernelWouldOrMustNotSee) {
    const auto [a, b] = make_seqpacket_pair(true).value();
    EXPECT_EQ(send_message(a.get(), {}).error().code(), EINVAL);
    const Fd null = dev_null();
    std::vector<int> many(254, null.get());
    EXPECT_EQ(send_message(a.get(), bytes("x"), many).error().code(), EINVAL);
    many.pop_back();
    ASSERT_TRUE(send_message(a.get(), bytes("x"), many));
    std::array<std::byte, 4> buffer = {};
    EXPECT_EQ(receive_message(b.get(), buffer, 253).value().fds.size(), 253U);
    const std::array bad = {-1};
    EXPECT_EQ(send_message(a.get(), bytes("x"), bad).error().code(), EBADF);
}

TEST(Scm, FullSocketSaysEagain) {
    const auto [a, b] = make_seqpacket_pair(true).value();
    const std::vector<std::byte> block(4096);
    Result<std::size_t> sent = 0U;
    for (int i = 0; i < 10000 && sent; ++i)
        sent = send_message(a.get(), block);
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().code(), EAGAIN);
}

TEST(ListenUnix, ReplacesASocketAndNothingElse) {
    const TemporaryDirectory folder;
    const Fd first = listen_unix(folder / "s", SOCK_SEQPACKET, 4).value();
    const Fd second = listen_unix(folder / "s", SOCK_SEQPACKET, 4).value();
    EXPECT_TRUE(fcntl(second.get(), F_GETFL) & O_NONBLOCK);
    EXPECT_TRUE(fcntl(second.get(), F_GETFD) & FD_CLOEXEC);
    const Fd client = connect_unix(folder / "s", SOCK_SEQPACKET, true).value();
    EXPECT_EQ(accept4(first.get(), nullptr, nullptr, SOCK_CLOEXEC), -1);
    EXPECT_TRUE(Fd(accept4(second.get(), nullptr, nullptr, SOCK_CLOEXEC)));

    const auto file = folder.write("file", "precious");
    EXPECT_EQ(listen_unix(file, SOCK_STREAM, 1).error().code(), EADDRINUSE);
    EXPECT_EQ(read_file(file).value(), "precious");
    // A symlink to a socket is no socket.
    ASSERT_EQ(symlink("s", (folder / "link").c_str()), 0);
    EXPECT_FALSE(listen_unix(folder / "link", SOCK_STREAM, 1));
}

TEST(ListenUnix, LongPaths) {
    const TemporaryDirectory folder;
    const std::string base = folder / "";
    const std::string longest = base + std::string(kMaxSocketPath - base.size(), 's');
    const auto listener = listen_unix(longest, SOCK_STREAM, 1);
    ASSERT_TRUE(listener) << listener.error().message();
    EXPECT_TRUE(connect_unix(longest, SOCK_STREAM, false));
    EXPECT_TRUE(std::filesystem::exists(longest));
    EXPECT_EQ(listen_unix(longest + "s", SOCK_STREAM, 1).error().code(), ENAMETOOLONG);
    EXPECT_EQ(connect_unix(longest + "s", SOCK_STREAM, true).error().code(), ENAMETOOLONG);
    EXPECT_EQ(connect_unix("", SOCK_STREAM, true).error().code(), EINVAL);
    EXPECT_EQ(connect_unix(folder / "none", SOCK_STREAM, true).error().code(), ENOENT);
}

} // namespace
} // namespace thaw
