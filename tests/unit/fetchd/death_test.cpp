// SPDX-License-Identifier: MIT

// thaw-fetchd is killed at any time.

#include "fetch_fixture.hpp"

#include <csignal>

namespace thaw::fetch {
namespace {

TEST_F(FetchTest, SurvivesTheDeathOfTheFetcherInTheMiddle) {
    auto request = whole(web_->proxied("/object"));
    web_->spoil({.kind = "slow", .value = "6000000"});
    std::optional<FetchEnd> got;
    std::uint64_t at_death = 0;
    const auto id = client_->fetch(
        request,
        [&](std::uint64_t landed) {
            if (at_death > 0 || landed < (1U << 20)) return;
            at_death = landed;
            service_->kill(SIGKILL);
        },
        [&](FetchEnd end) { got = std::move(end); }
    );
    ASSERT_TRUE(id);
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return got.has_value(); }));
    ASSERT_TRUE(got->result) << text(*got);
    EXPECT_GT(at_death, 0U);
    EXPECT_EQ(got->landed, kSize);
    EXPECT_TRUE(bytes(target_, 0, kSize) == content_);
    EXPECT_EQ(service_->starts(), 2U);
    EXPECT_EQ(client_->deaths(), 1U);
    // What had landed was not fetched again.
    const auto requests = web_->requests();
    ASSERT_EQ(requests.size(), 2U);
    const auto range = requests[1]["range"].get<std::string>();
    EXPECT_GE(std::stoull(range.substr(6)), at_death);
}

TEST_F(FetchTest, OneThatDiesAgainAndAgainIsGivenUp) {
    auto request = whole(web_->proxied("/object"));
    web_->spoil({.kind = "stall", .after = 100000});
    start("[Fetch]\nStallTimeoutSec=60s\n");
    std::optional<FetchEnd> got;
    const auto id = client_->fetch(request, {}, [&](FetchEnd end) { got = std::move(end); });
    ASSERT_TRUE(id);
    for (std::size_t n = 1; n <= FetchClient::kMostDeaths; ++n) {
        EXPECT_FALSE(got);
        ASSERT_TRUE(fakes::run_until(*loop_, [&] { return web_->request_count() == n; }));
        service_->kill(SIGKILL);
    }
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return got.has_value(); }));
    EXPECT_EQ(name(*got), source_error::kUnreachable) << text(*got);
    EXPECT_TRUE(got->retryable);
    // The next request starts it again.
    web_->clear();
    EXPECT_TRUE(fetch(request).result);
    EXPECT_EQ(service_->starts(), FetchClient::kMostDeaths + 1);
}

TEST_F(FetchTest, NobodyAtTheSocketIsSaid) {
    client_ = fakes::must(FetchClient::create(*loop_, folder_ / "nothing.sock"));
    const auto end = probe(web_->url("/object"));
    EXPECT_EQ(name(end), source_error::kUnreachable) << text(end);
}

TEST_F(FetchTest, RequestsOfAClientThatWentAwayAreGivenUp) {
    auto request = whole(web_->proxied("/object"));
    web_->spoil({.kind = "slow", .value = "300000"}); // ten seconds for all of it
    bool moved = false;
    const auto id = client_->fetch(request, [&](std::uint64_t) { moved = true; }, {});
    ASSERT_TRUE(id);
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return moved; }));
    client_.reset();
    const auto stands_still = [&] {
        const auto before = bytes(target_, 0, kSize);
        fakes::run_for(*loop_, 200 * kUsecPerMsec);
        return bytes(target_, 0, kSize) == before;
    };
    EXPECT_TRUE(fakes::run_until(*loop_, stands_still, 5 * kUsecPerSec));
    EXPECT_TRUE(bytes(target_, 0, kSize) != content_);
    EXPECT_EQ(service_->starts(), 1U);
}

TEST_F(FetchTest, EndsWhenNobodyIsConnectedAndComesBack) {
    start("[Fetch]\nIdleExitSec=100ms\n");
    EXPECT_TRUE(probe(web_->url("/object")).result);
    client_.reset();
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return service_->pid() == 0; }));
    client_ = fakes::must(FetchClient::create(*loop_, service_->path()));
    EXPECT_TRUE(probe(web_->url("/object")).result);
    EXPECT_EQ(service_->starts(), 2U);
}

} // namespace
} // namespace thaw::fetch
