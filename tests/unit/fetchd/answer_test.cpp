// SPDX-License-Identifier: MIT

// The pure decisions of fetchd.

#include "answer_check.hpp"
#include "backoff.hpp"

#include <gtest/gtest.h>

namespace thaw::fetchd {
namespace {

const SourceIdentity kPinned{8192, "\"a\"", "Mon"};

Answer good_answer() {
    return {
        .status = 206,
        .content_range = "bytes 4096-8191/8192",
        .etag = "\"a\"",
        .last_modified = "Tue",
    };
}

FetchError verdict(const Answer& answer, const SourceIdentity& pinned = kPinned) {
    const auto checked = check_range(answer, pinned, 4096, 4096);
    return checked ? FetchError{} : checked.error().error;
}

TEST(Answer, TheRangeThatWasAskedForIsTaken) {
    EXPECT_EQ(verdict(good_answer()), FetchError{});
    auto answer = good_answer();
    answer.content_encoding = "identity";
    EXPECT_EQ(verdict(answer), FetchError{});
    // Without an ETag the date counts; without either, the length.
    answer.etag.reset();
    EXPECT_EQ(verdict(answer), FetchError::Changed);
    EXPECT_EQ(verdict(answer, {8192, "", "Tue"}), FetchError{});
    EXPECT_EQ(verdict(answer, {8192, "", "Mon"}), FetchError::Changed);
    EXPECT_EQ(verdict(answer, {8192, "", ""}), FetchError{});
    EXPECT_EQ(verdict(answer, {8193, "", ""}), FetchError::Changed);
}

TEST(Answer, EveryOtherRangeIsRefused) {
    for (const char* range :
         {"bytes 0-4095/8192", "bytes 4096-8190/8192", "bytes 4097-8191/8192", "bytes 4096-8191/*",
          "bytes 4096-8191", "bytes */8192", "items 4096-8191/8192", "bytes 8191-4096/8192",
          "bytes -1-8191/8192", "bytes 4096-8191/8192 ", "bytes 4096-99999999999999999999/8192",
          ""}) {
        auto answer = good_answer();
        answer.content_range = range;
        EXPECT_EQ(verdict(answer), FetchError::Range) << range;
    }
    auto answer = good_answer();
    answer.content_range = "bytes 4096-8191/16384";
    EXPECT_EQ(verdict(answer), FetchError::Changed);
    answer = good_answer();
    answer.status = 200;
    EXPECT_EQ(verdict(answer), FetchError::Range);
    // If it is another object, that is the news.
    answer.etag = "\"b\"";
    EXPECT_EQ(verdict(answer), FetchError::Changed);
}

TEST(Answer, WhatMayPassIsTriedAgain) {
    const auto passes = [](long status) {
        const auto checked = check_range({.status = status}, kPinned, 0, 4096);
        return !checked && checked.error().retryable;
    };
    for (const long status : {408L, 425L, 429L, 500L, 502L, 503L, 504L, 599L})
        EXPECT_TRUE(passes(status)) << status;
    for (const long status : {204L, 301L, 302L, 400L, 401L, 403L, 404L, 405L, 410L, 412L, 416L})
        EXPECT_FALSE(passes(status)) << status;
    EXPECT_EQ(check_range({.status = 404}, kPinned, 0, 1).error().errno_value, ENOENT);
}

TEST(Answer, AProbeLearnsTheLength) {
    Answer answer{
        .status = 206, .content_range = "bytes 0-0/77", .etag = "W/\"x\"", .last_modified = "Tue"
    };
    const auto identity = check_probe(answer);
    ASSERT_TRUE(identity);
    EXPECT_EQ(*identity, (SourceIdentity{77, "W/\"x\"", "Tue"}));
    answer.content_range = "bytes 1-1/77";
    EXPECT_EQ(check_probe(answer).error().error, FetchError::Range);
    EXPECT_EQ(check_probe({.status = 200}).error().error, FetchError::Range);
    EXPECT_EQ(check_probe({.status = 200, .content_length = "0"})->length, 0U);
    EXPECT_EQ(check_probe({.status = 416, .content_range = "bytes */0"})->length, 0U);
    answer.content_range = "bytes 0-0/77";
    answer.etag = std::string(protocol::kFetchMaxTag + 1, 'x');
    EXPECT_EQ(check_probe(answer).error().error, FetchError::Protocol);
    EXPECT_TRUE(is_strong_etag("\"x\""));
    EXPECT_FALSE(is_strong_etag("W/\"x\""));
    EXPECT_FALSE(is_strong_etag("x"));
}

TEST(Backoff, DoublesUpToTheMaximumWithAQuarterByChance) {
    const auto delay = [](std::uint64_t failed, double chance) {
        return retry_delay(failed, 50'000, 500'000, chance);
    };
    EXPECT_EQ(delay(1, 0), 50'000U);
    EXPECT_EQ(delay(2, 0), 100'000U);
    EXPECT_EQ(delay(3, 0), 200'000U);
    EXPECT_EQ(delay(5, 0), 500'000U);
    EXPECT_EQ(delay(1000, 0), 500'000U);
    EXPECT_EQ(delay(1, 0.5), 56'250U);
    EXPECT_LT(delay(1000, 0.999), 625'000U);
}

} // namespace
} // namespace thaw::fetchd
