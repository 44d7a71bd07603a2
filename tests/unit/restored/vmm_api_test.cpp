// SPDX-License-Identifier: MIT
#include "fakes/run_until.hpp"
#include "http_vmm.hpp"
#include "temporary_directory.hpp"
#include "vmm_api.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

namespace thaw::restore {
namespace {

using fakes::run_until;
using testing::HttpVmm;

class VmmApiTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto loop = EventLoop::create();
        ASSERT_TRUE(loop);
        loop_.emplace(std::move(*loop));
        auto api = VmmApi::create(*loop_);
        ASSERT_TRUE(api);
        api_ = std::move(*api);
        vmm_.emplace(*loop_, socket());
    }
    void TearDown() override { vmm_.reset(); }
    std::string socket() const { return folder_ / "api.sock"; }

    HttpRequest request(Microseconds timeout = 5 * kUsecPerSec) const {
        return {
            .socket_path = socket(),
            .method = "PUT",
            .path = "/snapshot/load",
            .body = R"({"a":1})",
            .timeout = timeout,
        };
    }
    // Sends and waits for the end.
    Result<HttpReply> ask(const HttpRequest& what) {
        std::optional<Result<HttpReply>> got;
        auto call = api_->send(what, [&](Result<HttpReply> reply) { got = std::move(reply); });
        EXPECT_FALSE(got); // never from inside send()
        EXPECT_TRUE(run_until(*loop_, [&] { return got.has_value(); }));
        if (!got) return fail(ETIME, "no answer at all");
        return std::move(*got);
    }
    int code_of(const HttpRequest& what) {
        const auto reply = ask(what);
        return reply ? 0 : reply.error().code();
    }

    test::TemporaryDirectory folder_;
    std::optional<EventLoop> loop_;
    std::unique_ptr<VmmApi> api_;
    std::optional<HttpVmm> vmm_;
};

TEST_F(VmmApiTest, SendsTheBodyAndTakesAnEmptyAnswer) {
    const auto reply = ask(request());
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply->status, 204);
    EXPECT_EQ(reply->body, "");
    EXPECT_EQ(vmm_->requests(), std::vector<std::string>{"PUT /snapshot/load"});
    EXPECT_EQ(vmm_->last_body(), R"({"a":1})");
}

TEST_F(VmmApiTest, RefusalKeepsStatusAndBody) {
    vmm_->on("PUT /snapshot/load", {.status = 400, .body = R"({"fault_message":"no"})"});
    const auto reply = ask(request());
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply->status, 400);
    EXPECT_EQ(reply->body, R"({"fault_message":"no"})");
}

TEST_F(VmmApiTest, ManyAtOnceAndOneAfterTheOther) {
    unsigned done = 0;
    std::vector<HttpHandle> calls;
    for (int i = 0; i < 20; ++i)
        calls.push_back(api_->send(request(), [&](const Result<HttpReply>& reply) {
            if (reply && reply->status == 204) ++done;
        }));
    EXPECT_TRUE(run_until(*loop_, [&] { return done == 20; }));
    EXPECT_TRUE(ask(request()));
}

TEST_F(VmmApiTest, SilenceEndsAtTheLimit) {
    vmm_->on("PUT /snapshot/load", {.hang = true});
    const auto begin = now_monotonic();
    EXPECT_EQ(code_of(request(200 * kUsecPerMsec)), ETIMEDOUT);
    const auto took = now_monotonic() - begin;
    EXPECT_GE(took, 150 * kUsecPerMsec);
    EXPECT_LT(took, 2 * kUsecPerSec);
}

TEST_F(VmmApiTest, HalfAnAnswerThenSilence) {
    vmm_->on("PUT /snapshot/load", {.raw = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"});
    EXPECT_EQ(code_of(request(200 * kUsecPerMsec)), ETIMEDOUT);
}

TEST_F(VmmApiTest, DeathIsALostConnection) {
    vmm_->on("PUT /snapshot/load", {.close = true});
    EXPECT_EQ(code_of(request()), ECONNRESET);
    vmm_->on(
        "PUT /snapshot/load",
        {.raw = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", .close = true}
    );
    EXPECT_EQ(code_of(request()), ECONNRESET);
}

TEST_F(VmmApiTest, NobodyListens) {
    vmm_->die();
    EXPECT_EQ(code_of(request()), ENOENT);
}

TEST_F(VmmApiTest, HugeAnswersAreRefused) {
    vmm_->on("PUT /snapshot/load", {.status = 400, .body = std::string(kMaxReplyBody, 'x')});
    const auto fits = ask(request());
    ASSERT_TRUE(fits) << fits.error().message();
    EXPECT_EQ(fits->body.size(), kMaxReplyBody);
    vmm_->on("PUT /snapshot/load", {.status = 400, .body = std::string(kMaxReplyBody + 1, 'x')});
    EXPECT_EQ(code_of(request()), EMSGSIZE);
}

TEST_F(VmmApiTest, HugeHeadersAndNoise) {
    vmm_->on(
        "PUT /snapshot/load",
        {.raw = "HTTP/1.1 200 OK\r\nX: " + std::string(150000, 'x'), .close = true}
    );
    EXPECT_NE(code_of(request()), 0);
    vmm_->on("PUT /snapshot/load", {.raw = "SSH-2.0-OpenSSH_9.2\r\n", .close = true});
    EXPECT_NE(code_of(request()), 0);
}

TEST_F(VmmApiTest, DroppingACallEndsItSilently) {
    vmm_->on("PUT /snapshot/load", {.delay = 50 * kUsecPerMsec});
    bool told = false;
    auto call = api_->send(request(), [&](const Result<HttpReply>&) { told = true; });
    ASSERT_TRUE(run_until(*loop_, [&] { return !vmm_->requests().empty(); }));
    call.reset();
    fakes::run_for(*loop_, 150 * kUsecPerMsec);
    EXPECT_FALSE(told);
    // The connection is over for the VMM too.
    EXPECT_TRUE(ask({.socket_path = socket(), .body = {}, .timeout = kUsecPerSec}));
}

TEST_F(VmmApiTest, ACallMayBeDroppedByItsOwnHandler) {
    HttpHandle call;
    bool told = false;
    call = api_->send(request(), [&](const Result<HttpReply>&) {
        call.reset();
        told = true;
    });
    EXPECT_TRUE(run_until(*loop_, [&] { return told; }));
    EXPECT_TRUE(ask(request()));
}

} // namespace
} // namespace thaw::restore
