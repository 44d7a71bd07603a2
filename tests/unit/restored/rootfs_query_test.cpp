// SPDX-License-Identifier: MIT
#include "core/scm.hpp"
#include "fakes/must.hpp"
#include "fakes/run_until.hpp"
#include "rootfs_query.hpp"
#include "temporary_directory.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <optional>

namespace thaw::restore {
namespace {

using fakes::must;

class RootfsQueryTest : public testing::Test {
protected:
    void listen() { listener_ = must(listen_unix(path(), SOCK_SEQPACKET, 4)); }
    std::string path() const { return folder_ / "control"; }
    void ask() {
        query_ = std::make_unique<RootfsQuery>(loop_, path(), [this](auto answer) {
            query_.reset(); // as its owner does
            answer_ = std::move(answer);
        });
    }
    // The server's end of the question.
    Fd accept() {
        Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        EXPECT_TRUE(client);
        return client;
    }
    // The error that it ends with.
    Error error() {
        EXPECT_TRUE(fakes::run_until(loop_, [&] { return answer_.has_value(); }));
        if (!answer_ || *answer_) {
            ADD_FAILURE() << "no error";
            return {0, ""};
        }
        return answer_->error();
    }

    test::TemporaryDirectory folder_;
    EventLoop loop_ = must(EventLoop::create());
    Fd listener_;
    std::unique_ptr<RootfsQuery> query_;
    std::optional<Result<protocol::RootfsStatus>> answer_;
};

TEST_F(RootfsQueryTest, AnAnswerIsHandedOver) {
    listen();
    ask();
    const Fd server = accept();
    protocol::RootfsStatus status;
    status.name = "web";
    status.geometry.size = 1 << 20;
    status.dirty_blocks = 7;
    must(protocol::send_rootfs(server.get(), protocol::encode_status_reply(status)));
    ASSERT_TRUE(fakes::run_until(loop_, [&] { return answer_.has_value(); }));
    ASSERT_TRUE(*answer_) << answer_->error().message();
    EXPECT_EQ((*answer_)->dirty_blocks, 7U);
}

TEST_F(RootfsQueryTest, WhoeverIsNotThereIsNotRunning) {
    ask();
    EXPECT_FALSE(answer_); // never from inside the constructor
    EXPECT_EQ(error().bus_name(), protocol::rootfs_error::kNotRunning);
    answer_.reset();
    listen();
    listener_.reset(); // the socket's file stays
    ask();
    EXPECT_EQ(error().bus_name(), protocol::rootfs_error::kNotRunning);
}

TEST_F(RootfsQueryTest, NonsenseIsNamed) {
    listen();
    for (const std::string_view nonsense : {"", "x", "{\"name\": \"web\"}"}) {
        ask();
        const Fd server = accept();
        if (nonsense.empty())
            must(protocol::send_rootfs(
                server.get(), protocol::encode_rootfs_request(protocol::RootfsType::Point)
            ));
        else
            ASSERT_GT(::send(server.get(), nonsense.data(), nonsense.size(), 0), 0);
        EXPECT_EQ(error().code(), EBADMSG) << error().message();
        answer_.reset();
    }
}

TEST_F(RootfsQueryTest, AnEndIsAnError) {
    listen();
    ask();
    accept().reset();
    EXPECT_EQ(error().code(), ECONNRESET);
}

TEST_F(RootfsQueryTest, SilenceEndsIt) {
    listen();
    ask();
    const Fd server = accept();
    EXPECT_EQ(error().code(), ETIMEDOUT);
}

TEST_F(RootfsQueryTest, AForgottenQuestionCallsNobody) {
    listen();
    ask();
    const Fd server = accept();
    query_.reset();
    EXPECT_FALSE(protocol::send_rootfs(server.get(), protocol::encode_status_reply({})));
    EXPECT_FALSE(fakes::run_until(loop_, [&] { return answer_.has_value(); }, 50 * kUsecPerMsec));
}

} // namespace
} // namespace thaw::restore
