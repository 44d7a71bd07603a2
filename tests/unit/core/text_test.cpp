// SPDX-License-Identifier: MIT
#include "core/text.hpp"

#include <gtest/gtest.h>

#include <random>

namespace thaw {
namespace {

struct NumberCase {
    const char* text;
    std::uint64_t value;
};

constexpr std::uint64_t kGiB = 1ULL << 30;

TEST(ParseSize, Good) {
    const NumberCase cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"1K", 1024},
        {"1KiB", 1024},
        {"1KB", 1024},
        {"512B", 512},
        {"64M", 64ULL << 20},
        {"1.5G", kGiB + kGiB / 2},
        {" 2 T ", 2ULL << 40},
        {".5K", 512},
        {"0.1K", 102}, // rounded down
        {"15E", 15ULL << 60},
        {"15.999999999999999999E", 18446744073709551614ULL},
        {"18446744073709551615", UINT64_MAX},
        {"1.99999999999999999999999999999999999999K", 2047},
        {"0.0000000000000000000000000000001E", 0},
    };
    for (const auto& [text, value] : cases) {
        const auto size = parse_size(text);
        ASSERT_TRUE(size) << text << ": " << size.error().message();
        EXPECT_EQ(*size, value) << text;
    }
}

TEST(ParseSize, Bad) {
    for (const char* text :
         {"", " ", "x", "-1", "+1", "1.", ".", "1..5", "1k", "1X", "1KK", "1iB", "1 0", "0x10",
          "1e3", "K", "1KiBx", "infinity"})
        EXPECT_EQ(parse_size(text).error().code(), EINVAL) << text;
    for (const char* text : {"16E", "18446744073709551616", "99999999999999999999999"})
        EXPECT_FALSE(parse_size(text)) << text;
    EXPECT_EQ(parse_size("16E").error().code(), ERANGE);
}

TEST(ParseTimespan, Good) {
    const NumberCase cases[] = {
        {"30", 30 * kUsecPerSec},
        {"0", 0},
        {"30s", 30 * kUsecPerSec},
        {"10ms", 10 * kUsecPerMsec},
        {"500us", 500},
        {"7\xc2\xb5s", 7},
        {"1min 30s", 90 * kUsecPerSec},
        {"1min30s", 90 * kUsecPerSec},
        {"1 m 30 sec", 90 * kUsecPerSec},
        {"2.5ms", 2500},
        {"1.5", 1500000},
        {"2h", 7200 * kUsecPerSec},
        {"1d 1w", 8 * 86400ULL * kUsecPerSec},
        {"1M", 2629800 * kUsecPerSec},
        {"1y", 31557600 * kUsecPerSec},
        {"infinity", kInfinity},
        {" infinity ", kInfinity},
        {"0.0000001s", 0},
    };
    for (const auto& [text, value] : cases) {
        const auto span = parse_timespan(text);
        ASSERT_TRUE(span) << text << ": " << span.error().message();
        EXPECT_EQ(*span, value) << text;
    }
}

TEST(ParseTimespan, Bad) {
    for (const char* text : {"", "s", "-1s", "1x", "1 s s", "1..5s", "1.s", "infinity 1s", "1s,2s"})
        EXPECT_EQ(parse_timespan(text).error().code(), EINVAL) << text;
    for (const char* text :
         {"18446744073709551615us", "600000y", "99999999999999999999s",
          "18446744073709551614us 1us", "18446744073709551614us 2us"})
        EXPECT_EQ(parse_timespan(text).error().code(), ERANGE) << text;
}

TEST(FormatTimespan, Examples) {
    const std::pair<Microseconds, const char*> cases[] = {
        {0, "0"},
        {1, "1us"},
        {999, "999us"},
        {2500, "2.5ms"},
        {1000, "1ms"},
        {1000001, "1.000001s"},
        {90 * kUsecPerSec, "1min 30s"},
        {3600 * kUsecPerSec, "1h"},
        {86400 * kUsecPerSec + 1, "1d 1us"},
        {kInfinity, "infinity"},
    };
    for (const auto& [value, text] : cases)
        EXPECT_EQ(format_timespan(value), text);
}

TEST(FormatTimespan, IsReadBackExactly) {
    std::mt19937_64 random(42);
    for (int i = 0; i < 10000; ++i) {
        const Microseconds value = random() >> (random() % 64);
        EXPECT_EQ(parse_timespan(format_timespan(value)).value(), value);
    }
}

TEST(ParseBool, WordsOfSystemd) {
    for (const char* text : {"1", "yes", "y", "true", "t", "on", "YES", " On "})
        EXPECT_TRUE(parse_bool(text).value()) << text;
    for (const char* text : {"0", "no", "n", "false", "f", "off", "False"})
        EXPECT_FALSE(parse_bool(text).value()) << text;
    for (const char* text : {"", "2", "ja", "yess", "01"})
        EXPECT_EQ(parse_bool(text).error().code(), EINVAL) << text;
}

TEST(ParseUnsigned, Bounds) {
    EXPECT_EQ(parse_unsigned("0").value(), 0U);
    EXPECT_EQ(parse_unsigned(" 12 ").value(), 12U);
    EXPECT_EQ(parse_unsigned("18446744073709551615").value(), UINT64_MAX);
    EXPECT_EQ(parse_unsigned("18446744073709551616").error().code(), ERANGE);
    EXPECT_EQ(parse_unsigned("101", 100).error().code(), ERANGE);
    EXPECT_EQ(parse_unsigned("100", 100).value(), 100U);
    for (const char* text : {"", "-1", "+1", "1x", "0x1", "1.0", "99999999999999999999x"})
        EXPECT_EQ(parse_unsigned(text).error().code(), EINVAL) << text;
}

TEST(FormatSize, Examples) {
    EXPECT_EQ(format_size(0), "0B");
    EXPECT_EQ(format_size(512), "512B");
    EXPECT_EQ(format_size(1024), "1.0K");
    EXPECT_EQ(format_size(64ULL << 20), "64.0M");
    EXPECT_EQ(format_size(kGiB + kGiB / 2), "1.5G");
    EXPECT_EQ(format_size((1ULL << 20) - 1), "1023.9K");
    EXPECT_EQ(format_size(UINT64_MAX), "15.9E");
}

TEST(FormatTimestamp, IsUtc) {
    EXPECT_EQ(format_timestamp(1772359200 * kUsecPerSec + 999999), "2026-03-01 10:00:00 UTC");
    EXPECT_EQ(format_timestamp(0), "n/a");
    EXPECT_EQ(format_timestamp(kInfinity), "n/a");
}

TEST(Text, TrimAndSplit) {
    EXPECT_EQ(trim("  a b\t\n"), "a b");
    EXPECT_EQ(trim(" \t "), "");
    EXPECT_EQ(trim(""), "");
    EXPECT_EQ(split_words("  a  b\tc\n"), (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_TRUE(split_words(" ").empty());
}

TEST(Text, Hex) {
    const std::string all = [] {
        std::string bytes;
        for (int i = 0; i < 256; ++i)
            bytes += static_cast<char>(i);
        return bytes;
    }();
    EXPECT_EQ(hex_decode(hex_encode(all.data(), all.size())), all);
    EXPECT_EQ(hex_encode("\x0f\xa0", 2), "0fa0");
    EXPECT_EQ(hex_decode("0FA0"), "\x0f\xa0");
    EXPECT_EQ(hex_decode(""), "");
    EXPECT_EQ(hex_decode("0"), std::nullopt);
    EXPECT_EQ(hex_decode("0g"), std::nullopt);
}

TEST(Text, Utf8) {
    for (const char* good :
         {"", "ascii", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf",
          "\xed\x9f\xbf", "\xee\x80\x80"})
        EXPECT_TRUE(is_valid_utf8(good)) << good;
    for (const char* bad :
         {"\x80", "\xc3", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\xaf", "\xed\xa0\x80",
          "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xff", "a\xe2\x82", "\xfe"})
        EXPECT_FALSE(is_valid_utf8(bad));
}

TEST(Clock, Runs) {
    const auto before = now_monotonic();
    EXPECT_LE(before, now_monotonic());
    EXPECT_GT(now_realtime(), 1700000000 * kUsecPerSec);
}

} // namespace
} // namespace thaw
