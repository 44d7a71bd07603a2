// SPDX-License-Identifier: MIT
#include "request.hpp"

#include <gtest/gtest.h>

namespace thaw::metrics {
namespace {

TEST(Request, WhatAScraperSends) {
    EXPECT_EQ(
        judge_request("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"),
        Verdict::Metrics
    );
    EXPECT_EQ(judge_request("GET / HTTP/1.0\r\n\r\n"), Verdict::Metrics);
    EXPECT_EQ(judge_request("GET /metrics?x=1 HTTP/1.1\n\n"), Verdict::Metrics);
}

TEST(Request, WaitsForTheEndOfTheHeadersButNotForEver) {
    EXPECT_EQ(judge_request(""), Verdict::Incomplete);
    EXPECT_EQ(judge_request("GET /metrics HTTP/1.1\r\nHost: x\r\n"), Verdict::Incomplete);
    EXPECT_EQ(judge_request(std::string(kMaxRequest - 1, 'x')), Verdict::Incomplete);
    EXPECT_EQ(judge_request(std::string(kMaxRequest, 'x')), Verdict::Bad);
}

TEST(Request, RefusesEverythingElse) {
    EXPECT_EQ(judge_request("GET /other HTTP/1.1\r\n\r\n"), Verdict::NotFound);
    EXPECT_EQ(judge_request("POST /metrics HTTP/1.1\r\n\r\n"), Verdict::BadMethod);
    EXPECT_EQ(judge_request("GET /metrics\r\n\r\n"), Verdict::Bad);
    EXPECT_EQ(judge_request("GET /metrics HTTP/2\r\n\r\n"), Verdict::Bad);
    EXPECT_EQ(judge_request("\r\n\r\n"), Verdict::Bad);
    EXPECT_EQ(judge_request(std::string("\0\0\r\n\r\n", 6)), Verdict::Bad);
}

TEST(Request, AnswerSaysItsLength) {
    EXPECT_EQ(
        make_response(Verdict::Metrics, "# EOF\n"),
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        "Content-Length: 6\r\nConnection: close\r\n\r\n# EOF\n"
    );
    EXPECT_TRUE(make_response(Verdict::NotFound, "").starts_with("HTTP/1.1 404 "));
    EXPECT_TRUE(make_response(Verdict::BadMethod, "").starts_with("HTTP/1.1 405 "));
}

} // namespace
} // namespace thaw::metrics
