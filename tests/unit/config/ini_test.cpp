// SPDX-License-Identifier: MIT
#include "config/ini.hpp"

#include <gtest/gtest.h>

namespace thaw {
namespace {

struct Settings {
    std::string name = "default";
    bool enabled = true;
    std::uint64_t size = 1024;
    std::uint64_t timeout = 5;
    std::uint64_t count = 3;
    std::vector<std::string> words = {"built-in"};

    std::vector<ConfigKey> keys() {
        return {
            {"Main", "Name", config_string(&name)},
            {"Main", "Enabled", config_bool(&enabled)},
            {"Main", "Size", config_size(&size)},
            {"Limits", "TimeoutSec", config_timespan(&timeout)},
            {"Limits", "Count", config_unsigned(&count, 1, 10)},
            {"Limits", "Words", config_words(&words)},
        };
    }
};

// "3: text" for each warning.
std::vector<std::string> read(Settings& settings, std::string_view text) {
    std::vector<std::string> lines;
    for (const auto& warning : parse_config(text, "x.conf", settings.keys())) {
        EXPECT_EQ(warning.file, "x.conf");
        lines.push_back(fmt::format("{}: {}", warning.line, warning.text));
    }
    return lines;
}

using Lines = std::vector<std::string>;

TEST(Ini, ReadsTheUsualTypes) {
    Settings s;
    EXPECT_EQ(
        read(
            s, "# comment\n; comment\n\n[Main]\nName = a b \nEnabled=no\r\nSize=64M\n"
               "[Limits]\nTimeoutSec=1min 30s\nCount=10\nWords=x  y\nWords=z"
        ),
        Lines{}
    );
    EXPECT_EQ(s.name, "a b");
    EXPECT_FALSE(s.enabled);
    EXPECT_EQ(s.size, 64U << 20);
    EXPECT_EQ(s.timeout, 90000000U);
    EXPECT_EQ(s.count, 10U);
    EXPECT_EQ(s.words, (Lines{"built-in", "x", "y", "z"}));
}

TEST(Ini, LaterAssignmentsWinAndEmptyOnesReset) {
    Settings s;
    EXPECT_EQ(
        read(
            s, "[Main]\nName=a\nName=b\nEnabled=no\nEnabled=\nSize=1M\nSize=\n"
               "[Limits]\nWords=\nWords=only\n[Main]\nName=c\n"
        ),
        Lines{}
    );
    EXPECT_EQ(s.name, "c");
    EXPECT_TRUE(s.enabled);
    EXPECT_EQ(s.size, 1024U);
    EXPECT_EQ(s.words, Lines{"only"});
    read(s, "[Main]\nName=\n");
    EXPECT_EQ(s.name, "c"); // the value when the keys were made
}

TEST(Ini, BadValuesChangeNothing) {
    Settings s;
    EXPECT_EQ(
        read(s, "[Main]\nEnabled=maybe\nSize=-1\n[Limits]\nCount=11\nCount=0\nTimeoutSec=x\n"),
        (Lines{
            "2: Enabled=: \"maybe\" is neither yes nor no, ignored",
            "3: Size=: \"-1\" is not a size, ignored",
            "5: Count=: \"11\" is larger than 10, ignored",
            "6: Count=: \"0\" is smaller than 1, ignored",
            "7: TimeoutSec=: \"x\" is not a time span, ignored",
        })
    );
    EXPECT_TRUE(s.enabled);
    EXPECT_EQ(s.size, 1024U);
    EXPECT_EQ(s.count, 3U);
    EXPECT_EQ(s.timeout, 5U);
}

TEST(Ini, WhatIsUnknownIsReportedWithItsLine) {
    Settings s;
    EXPECT_EQ(
        read(
            s, "Early=1\n[Main]\nNmae=x\nname=x\n[Mian]\nName=x\n[X-Other]\nName=x\n"
               "[broken\nName=x\n[]\nName=x\n[Main]\njust text\n=x\nName=good\n"
        ),
        (Lines{
            "1: Early= stands before any section, ignored",
            "3: unknown key Nmae= in section \"Main\", ignored",
            "4: unknown key name= in section \"Main\", ignored",
            "5: unknown section \"Mian\", ignored",
            "9: bad section header \"[broken\", its lines are ignored",
            "11: bad section header \"[]\", its lines are ignored",
            "14: \"just text\" is not an assignment, ignored",
            "15: \"=x\" is not an assignment, ignored",
        })
    );
    EXPECT_EQ(s.name, "good");
}

TEST(Ini, ContinuedLines) {
    Settings s;
    EXPECT_EQ(
        read(
            s, "[Limits]\nWords=a \\\n# a comment in between\n  b\\  \n; another\nc\nBad=\\\n1\n"
               "[Main]\nName=end\\"
        ),
        Lines{"7: unknown key Bad= in section \"Limits\", ignored"}
    );
    EXPECT_EQ(s.words, (Lines{"built-in", "a", "b", "c"}));
    EXPECT_EQ(s.name, "end");
}

TEST(Ini, ACommentDoesNotContinueAndAnEmptyLineEnds) {
    Settings s;
    EXPECT_EQ(read(s, "[Main]\n# Name=x \\\nName=y\nSize=2K\\\n\nEnabled=no\n"), Lines{});
    EXPECT_EQ(s.name, "y");
    EXPECT_EQ(s.size, 2048U);
    EXPECT_FALSE(s.enabled);
}

TEST(Ini, OtherBytes) {
    Settings s;
    const std::string null(1, '\0');
    EXPECT_EQ(
        read(s, "\xef\xbb\xbf[Main]\nName=\xff\nName=a" + null + "b\nName=\xc3\xa4\n"),
        (Lines{"2: the line is not UTF-8 text, ignored", "3: the line is not UTF-8 text, ignored"})
    );
    EXPECT_EQ(s.name, "\xc3\xa4");
    EXPECT_EQ(read(s, ""), Lines{});
    EXPECT_EQ(read(s, "\\"), Lines{});
    EXPECT_EQ(read(s, "\n\n\n"), Lines{});
}

TEST(Ini, ValuesMayHoldEqualsSignsAndCommentSigns) {
    Settings s;
    EXPECT_EQ(read(s, "[Main]\nName=a=b # c ; d\n"), Lines{});
    EXPECT_EQ(s.name, "a=b # c ; d");
}

enum class Color { Red, Green, Blue };
constexpr EnumTable kColorNames{std::array{
    std::pair{Color::Red, std::string_view("red")},
    std::pair{Color::Green, std::string_view("green")},
    std::pair{Color::Blue, std::string_view("blue")}
}};

TEST(Ini, StricterTypes) {
    std::uint64_t delay = 7;
    std::string path = "/usual";
    std::vector<std::string> paths;
    auto color = Color::Green;
    const std::vector<ConfigKey> keys{
        {"Main", "DelaySec", config_positive_timespan(&delay)},
        {"Main", "Path", config_absolute_path(&path)},
        {"Main", "Paths", config_absolute_paths(&paths)},
        {"Main", "Color", config_word(kColorNames, &color)},
    };
    const auto read = [&keys](std::string_view text) {
        Lines lines;
        for (const auto& warning : parse_config(text, "x.conf", keys))
            lines.push_back(warning.text);
        return lines;
    };
    EXPECT_EQ(read("[Main]\nDelaySec=2s\nPath=/a\nPaths=/b /c\nPaths=/d\nColor=blue\n"), Lines{});
    EXPECT_EQ(delay, 2000000U);
    EXPECT_EQ(path, "/a");
    EXPECT_EQ(paths, (Lines{"/b", "/c", "/d"}));
    EXPECT_EQ(color, Color::Blue);
    EXPECT_EQ(
        read("[Main]\nDelaySec=0\nPath=a\nPaths=/e f\nColor=black\n"),
        (Lines{
            "DelaySec=: expected a time above 0, ignored",
            "Path=: expected an absolute path, ignored",
            "Paths=: \"f\" is no absolute path, ignored",
            "Color=: expected red, green or blue, ignored"
        })
    );
    EXPECT_EQ(delay, 2000000U);
    EXPECT_EQ(path, "/a");
    EXPECT_EQ(paths, (Lines{"/b", "/c", "/d"})) << "all of an assignment or nothing";
    EXPECT_EQ(color, Color::Blue);
    EXPECT_EQ(read("[Main]\nDelaySec=\nPath=\nPaths=\nColor=\n"), Lines{});
    EXPECT_EQ(delay, 7U);
    EXPECT_EQ(path, "/usual");
    EXPECT_EQ(paths, Lines{});
    EXPECT_EQ(color, Color::Green);
}

} // namespace
} // namespace thaw
