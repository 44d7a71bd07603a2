// SPDX-License-Identifier: MIT
#include "peer_fixture.hpp"

#include <fcntl.h>
#include <unistd.h>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

class Message : public PeerTest {};

TEST_F(Message, CallAndReply) {
    auto reply = ask(say("ping"));
    ASSERT_TRUE(reply) << reply.error().message();
    const char* text = nullptr;
    ASSERT_TRUE(reply->read("s", &text));
    EXPECT_STREQ(text, "ping");
}

TEST_F(Message, HandlersErrorArrivesWithNameErrnoAndText) {
    auto reply = ask(echo_call("Fail"));
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code(), EBUSY);
    EXPECT_EQ(reply.error().bus_name(), kNamedError);
    EXPECT_EQ(reply.error().message(), std::string(kNamedError) + ": as asked");
}

TEST_F(Message, PlainErrnoArrivesAsGenericName) {
    auto reply = ask(echo_call("Refuse"));
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code(), EACCES);
    EXPECT_EQ(reply.error().bus_name(), kErrorAccessDenied);
}

TEST_F(Message, KeptMessageIsAnsweredLater) {
    std::optional<Result<BusMessage>> answer;
    auto slot = bus->client.call(echo_call("Keep"), [&](Result<BusMessage> reply) {
        answer = std::move(reply);
    });
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return static_cast<bool>(echo.kept); }));
    EXPECT_FALSE(answer);
    ASSERT_TRUE(echo.kept.reply_empty());
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return answer.has_value(); }));
    EXPECT_TRUE(*answer);
}

TEST_F(Message, KeptMessageIsAnsweredWithAnErrorLater) {
    std::optional<Result<BusMessage>> answer;
    auto slot = bus->client.call(echo_call("Keep"), [&](Result<BusMessage> reply) {
        answer = std::move(reply);
    });
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return static_cast<bool>(echo.kept); }));
    echo.kept.reply_error(Error(kNamedError, EBUSY, "later"));
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return answer.has_value(); }));
    ASSERT_FALSE(*answer);
    EXPECT_EQ(answer->error().bus_name(), kNamedError);
}

TEST_F(Message, ContainersVariantsAndDescriptors) {
    auto message = echo_call("Keep");
    ASSERT_TRUE(message);
    // The vtable wants no arguments for Keep; only reading back matters here.
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ASSERT_TRUE(message->open_container('a', "{sv}"));
    ASSERT_TRUE(message->append("{sv}", "Count", "t", std::uint64_t{7}));
    ASSERT_TRUE(message->append("{sv}", "Name", "s", "web"));
    ASSERT_TRUE(message->close_container());
    ASSERT_TRUE(message->append("h", fd));
    close(fd);
    ASSERT_GE(sd_bus_message_seal(message->get(), 1, 0), 0);

    ASSERT_TRUE(message->enter_container('a', "{sv}"));
    auto more = message->enter_container('e', "sv");
    ASSERT_TRUE(more && *more);
    const char* key = nullptr;
    ASSERT_TRUE(message->read("s", &key));
    EXPECT_STREQ(key, "Count");
    auto held = message->peek_variant();
    ASSERT_TRUE(held);
    EXPECT_EQ(*held, "t");
    std::uint64_t count = 0;
    ASSERT_TRUE(message->read("v", "t", &count));
    EXPECT_EQ(count, 7U);
    ASSERT_TRUE(message->exit_container());
    more = message->enter_container('e', "sv");
    ASSERT_TRUE(more && *more);
    ASSERT_TRUE(message->skip("s"));
    EXPECT_FALSE(message->read("v", "t", &count)) << "a string read as a number";
    ASSERT_TRUE(message->skip("v"));
    ASSERT_TRUE(message->exit_container());
    more = message->enter_container('e', "sv");
    ASSERT_TRUE(more);
    EXPECT_FALSE(*more) << "end of the array";
    ASSERT_TRUE(message->exit_container());
    EXPECT_FALSE(message->peek_variant()) << "a descriptor is no variant";
    int received = -1;
    ASSERT_TRUE(message->read("h", &received));
    EXPECT_GE(fcntl(received, F_GETFD), 0);
}

TEST_F(Message, SenderUidOfAPeerIsProvenByTheSocket) {
    auto slot = bus->client.call(echo_call("Keep"), [](Result<BusMessage>) {});
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return static_cast<bool>(echo.kept); }));
    auto uid = echo.kept.sender_uid();
    ASSERT_TRUE(uid) << uid.error().message();
    EXPECT_EQ(*uid, getuid());
    EXPECT_EQ(echo.kept.sender(), "");
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
