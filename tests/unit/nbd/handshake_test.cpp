// SPDX-License-Identifier: MIT
#include "core/fd.hpp"
#include "handshake.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>

#include <array>
#include <string>
#include <string_view>

namespace thaw::nbd {
namespace {

using namespace std::string_view_literals;

constexpr auto kHello = "NBDMAGICIHAVEOPT\0\3"sv;
// Of option 7: an acknowledgement.
constexpr auto kAck = "\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\7\0\0\0\1\0\0\0\0"sv;
constexpr auto kExport = "\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\7\0\0\0\3\0\0\0\xc"
                         "\0\0\0\0\0\0\0\x10\0\0\1\x6d"sv;
// A preferred block size, as servers may say unasked.
constexpr auto kBlockSizes = "\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\7\0\0\0\3\0\0\0\xe"
                             "\0\3\0\0\0\1\0\0\x10\0\2\0\0\0"sv;

class Handshake : public ::testing::Test {
protected:
    Handshake() {
        std::array<int, 2> ends{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        ours_ = Fd(ends[0]);
        server_ = Fd(ends[1]);
    }
    // The server says all of it at once, and no more.
    Result<Export> after(std::initializer_list<std::string_view> words) {
        for (const auto word : words)
            EXPECT_EQ(::send(server_.get(), word.data(), word.size(), 0), std::ssize(word));
        ::shutdown(server_.get(), SHUT_WR);
        return shake_hands(ours_.get());
    }
    std::string heard() {
        std::string text(100, '\0');
        const auto got = ::recv(server_.get(), text.data(), text.size(), MSG_DONTWAIT);
        text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return text;
    }

    Fd ours_;
    Fd server_;
};

TEST_F(Handshake, AsksForTheDefaultExportAndTakesItsSizeAndFlags) {
    const auto got = after({kHello, kBlockSizes, kExport, kAck});
    ASSERT_TRUE(got) << got.error().message();
    EXPECT_EQ(*got, (Export{.size = 1 << 20, .flags = 0x016d}));
    EXPECT_EQ(heard(), "\0\0\0\3IHAVEOPT\0\0\0\7\0\0\0\6\0\0\0\0\0\0"sv);
}

TEST_F(Handshake, LeavesWhatComesAfterItToTheKernel) {
    ASSERT_TRUE(after({kHello, kExport, kAck, "next"}));
    std::array<char, 8> rest{};
    EXPECT_EQ(::recv(ours_.get(), rest.data(), rest.size(), MSG_DONTWAIT), 4);
}

TEST_F(Handshake, ARefusalComesWithItsWords) {
    const auto got =
        after({kHello, "\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\7\x80\0\0\6\0\0\0\7no disk"sv});
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().message(), "the NBD server refuses: error 6 no disk");
}

TEST_F(Handshake, WhatIsNoServerOfOursIsRefused) {
    EXPECT_EQ(after({"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0"sv}).error().code(), EPROTO);
}

TEST_F(Handshake, OneThatHangsUpIsToldSo) {
    EXPECT_EQ(after({kHello, kExport.substr(0, 25)}).error().code(), EPROTO);
}

TEST_F(Handshake, AnAcknowledgementWithoutAnExportIsRefused) {
    EXPECT_EQ(after({kHello, kAck}).error().code(), EPROTO);
}

TEST_F(Handshake, LengthsAreLimited) {
    EXPECT_EQ(
        after({kHello, "\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\7\0\0\0\3\x7f\0\0\0"sv}).error().code(),
        EPROTO
    );
}

} // namespace
} // namespace thaw::nbd
