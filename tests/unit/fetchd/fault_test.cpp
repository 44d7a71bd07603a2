// SPDX-License-Identifier: MIT

// Everything a server can do wrong: a name for it, the tries counted, nothing written that is not
// known to be right, and the next request is served.

#include "fetch_fixture.hpp"

namespace thaw::fetch {
namespace {

using namespace std::chrono_literals;

struct Case {
    const char* label;
    fakes::Fault fault;
    std::string_view error;
    unsigned tries;
    bool retryable;
    const char* hint; // in the message
};

class FaultTest : public FetchTest, public ::testing::WithParamInterface<Case> {};

TEST_P(FaultTest, HasAName) {
    const auto& [label, fault, error, tries, retryable, hint] = GetParam();
    const auto end = spoiled(fault);
    EXPECT_EQ(name(end), error) << text(end);
    EXPECT_EQ(end.tries, tries) << text(end);
    EXPECT_EQ(web_->request_count(), tries);
    EXPECT_EQ(end.retryable, retryable);
    EXPECT_NE(text(end).find(hint), std::string::npos) << text(end);
    expect_only_good_bytes(end);
    // It is over with the fault, without a restart.
    web_->clear();
    EXPECT_TRUE(fetch(whole(web_->proxied("/object"))).result);
    EXPECT_EQ(service_->starts(), 1U);
}

using namespace source_error;
constexpr unsigned kAll = 4;

INSTANTIATE_TEST_SUITE_P(
    Server, FaultTest,
    ::testing::Values(
        Case{"Silence", {.kind = "silence"}, kTimeout, kAll, true, "silent for 500ms"},
        Case{"Stall", {.kind = "stall", .after = 600000}, kTimeout, kAll, true, "silent"},
        Case{"Reset", {.kind = "reset", .after = 100000}, kReset, kAll, true, ""},
        Case{"ResetAtOnce", {.kind = "reset"}, kReset, kAll, true, ""},
        Case{"Short", {.kind = "short", .after = 100000}, kShort, kAll, true, ""},
        Case{"Garbage", {.kind = "garbage"}, kProtocol, 1, false, ""},
        Case{"Status500", {.kind = "status", .value = "500"}, kRefused, kAll, true, "500"},
        Case{"Status429", {.kind = "status", .value = "429"}, kRefused, kAll, true, "429"},
        Case{"Status404", {.kind = "status", .value = "404"}, kRefused, 1, false, "404"},
        Case{"Status403", {.kind = "status", .value = "403"}, kCredentials, 1, false, "403"},
        Case{"Redirection", {.kind = "status", .value = "302"}, kRefused, 1, false, "redirects"},
        Case{"Status416", {.kind = "status", .value = "416"}, kRange, 1, false, "416"},
        Case{"Shrunk", {.kind = "gone-length", .value = "4096"}, kChanged, 1, false, "4096"},
        Case{"Precondition", {.kind = "status", .value = "412"}, kChanged, 1, false, "changed"},
        Case{"Whole", {.kind = "whole"}, kRange, kAll, true, "everything"},
        Case{"ChangedEtag", {.kind = "etag", .value = "\"other\""}, kChanged, 1, false, "other"},
        Case{"Longer", {.kind = "longer", .value = "4096"}, kChanged, 1, false, "length"},
        Case{"Packed", {.kind = "packed"}, kRange, 1, false, "gzip"}
    ),
    [](const auto& one) { return std::string(one.param.label); }
);

TEST_F(FetchTest, AnotherRangeThanAskedForIsRefused) {
    auto request = whole(web_->proxied("/object"));
    request.length = 1 << 20;
    web_->spoil({.kind = "shifted", .value = "4096"});
    const auto end = fetch(request);
    EXPECT_EQ(name(end), kRange) << text(end);
    EXPECT_EQ(end.tries, kAll);
    EXPECT_EQ(end.landed, 0U);
    EXPECT_TRUE(bytes(target_, 0, kSize) == std::string(kSize, '\0'));
}

TEST_F(FetchTest, AnObjectThatIsReplacedIsNeverMixed) {
    // The first tries end in the middle; by the second, or the third, the object is another one.
    auto request = whole(web_->proxied("/object"));
    web_->spoil({.kind = "short", .count = 2, .after = 1 << 20});
    serve("/object.new", noise(kSize, 2));
    // nginx's ETag knows whole seconds only.
    const auto later = std::filesystem::file_time_type::clock::now() + 10s;
    std::filesystem::last_write_time(web_->www("/object.new"), later);
    std::optional<FetchEnd> got;
    bool replaced = false;
    const auto id = client_->fetch(
        request,
        [&](std::uint64_t) {
            if (!std::exchange(replaced, true))
                std::filesystem::rename(web_->www("/object.new"), web_->www("/object"));
        },
        [&](FetchEnd end) { got = std::move(end); }
    );
    ASSERT_TRUE(id);
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return got.has_value(); }));
    EXPECT_TRUE(replaced);
    EXPECT_EQ(name(*got), kChanged) << text(*got);
    EXPECT_GE(got->tries, 2U);
    expect_only_good_bytes(*got);
    EXPECT_NE(log().find("THAW_ERROR=org.thaw.pager1.Error.SourceChanged"), std::string::npos)
        << log();
}

TEST_F(FetchTest, ARetryGoesOnWhereTheLastOneEnded) {
    const auto end = spoiled({.kind = "reset", .count = 2, .after = 1 << 20});
    ASSERT_TRUE(end.result) << text(end);
    EXPECT_EQ(end.tries, 3U);
    EXPECT_TRUE(bytes(target_, 0, kSize) == content_);
    const auto requests = web_->requests();
    ASSERT_EQ(requests.size(), 3U);
    EXPECT_EQ(requests[0]["range"], fmt::format("bytes=0-{}", kSize - 1));
    EXPECT_NE(requests[1]["range"], requests[0]["range"]);
    EXPECT_EQ(requests[1]["headers"]["If-Match"], identity(web_->url("/object")).etag);
}

TEST_F(FetchTest, CorruptBytesAreNotForUsToSee) {
    const auto end = spoiled({.kind = "corrupt", .after = 4096});
    ASSERT_TRUE(end.result) << text(end);
    const auto got = bytes(target_, 0, kSize);
    EXPECT_EQ(got.substr(0, 4096), content_.substr(0, 4096));
    EXPECT_NE(got[4096], content_[4096]);
}

TEST_F(FetchTest, ASlowServerIsWaitedForAndItsBytesCountAtOnce) {
    const auto end = spoiled({.kind = "slow", .value = "4000000"});
    ASSERT_TRUE(end.result) << text(end);
    EXPECT_EQ(end.tries, 1U);
    // Not in blocks of 256 KiB: somebody waits for the first page.
    EXPECT_LE(landed_.front(), 64U << 10);
    EXPECT_GE(landed_.size(), 16U);
}

TEST_F(FetchTest, TheWholeRequestHasATimeToo) {
    start("[Fetch]\nStallTimeoutSec=10s\nTimeoutSec=400ms\n");
    const auto began = now_monotonic();
    const auto end = spoiled({.kind = "slow", .value = "1000000"});
    EXPECT_EQ(name(end), kTimeout) << text(end);
    EXPECT_NE(text(end).find("not done within 400ms"), std::string::npos) << text(end);
    EXPECT_LT(now_monotonic() - began, 5 * kUsecPerSec);
    EXPECT_GT(end.landed, 0U);
    expect_only_good_bytes(end);
}

TEST_F(FetchTest, AServerThatHangsKeepsOnlyItsOwnWaiting) {
    start("[Fetch]\nStallTimeoutSec=60s\nMaxTransfers=1\n");
    const auto request = whole(web_->proxied("/object"));
    web_->spoil({.kind = "silence"});
    std::vector<std::string> ended;
    const auto fetch_from = [&](const std::string& url) {
        auto other = request;
        other.url = url;
        const auto id = client_->fetch(other, {}, [&, url](const FetchEnd& end) {
            ended.push_back(end.result ? url : text(end));
        });
        EXPECT_TRUE(id);
    };
    for (int i = 0; i < 3; ++i)
        fetch_from(web_->proxied("/object"));
    fetch_from(web_->url("/object"));
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return !ended.empty(); }));
    EXPECT_EQ(ended, std::vector{web_->url("/object")});
    ASSERT_TRUE(fakes::run_until(*loop_, [&] { return web_->request_count() > 0; }));
    fakes::run_for(*loop_, 100 * kUsecPerMsec);
    EXPECT_EQ(web_->request_count(), 1U);
}

TEST_F(FetchTest, NobodyListens) {
    auto request = whole(web_->url("/object"));
    web_->stop_server();
    const auto end = fetch(request);
    EXPECT_EQ(name(end), kUnreachable) << text(end);
    EXPECT_EQ(end.tries, kAll);
    ASSERT_TRUE(web_->start_server());
    EXPECT_TRUE(fetch(request).result);
}

} // namespace
} // namespace thaw::fetch
