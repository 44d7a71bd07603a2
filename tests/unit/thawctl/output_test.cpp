// SPDX-License-Identifier: MIT

#include "output.hpp"
#include "progress_bar.hpp"
#include "table.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace thaw::ctl {
namespace {

TEST(Table, WidthsAreOfCharactersNotBytes) {
    setup_locale();
    EXPECT_EQ(display_width(""), 0U);
    EXPECT_EQ(display_width("abc"), 3U);
    EXPECT_EQ(display_width("Zürich"), 6U);
    EXPECT_EQ(display_width("日本"), 4U);
    EXPECT_EQ(display_width("e\u0301"), 1U) << "combining accent";
    EXPECT_EQ(display_width("\xff\xfe"), 2U);
    EXPECT_EQ(display_width("\xe6\x97"), 2U) << "cut in the middle";
}

TEST(Table, AlignsColumns) {
    setup_locale();
    Table table({{"NAME"}, {"SIZE", Align::Right}, {"NOTE"}});
    EXPECT_TRUE(table.empty());
    table.add({"日本", "1", "x"});
    table.add({"a", "1000", ""});
    EXPECT_EQ(
        table.format(true, false), "NAME  SIZE  NOTE\n"
                                   "日本     1  x\n"
                                   "a     1000  -\n"
    );
    EXPECT_EQ(
        table.format(false, false), "日本     1  x\n"
                                    "a     1000  -\n"
    );
}

TEST(Table, ColorsDoNotDisturbTheColumns) {
    Table table({{"A"}, {"B"}});
    table.add({{"x", Color::Bad}, "y"});
    table.add({"long", "z"});
    EXPECT_EQ(table.format(false, true), "\x1b[0;1;31mx\x1b[0m     y\nlong  z\n");
}

TEST(Table, ForeignTextCannotDriveTheTerminal) {
    EXPECT_EQ(printable("a\x1b[31mb\n\t\x7f"), "a?[31mb???");
    EXPECT_EQ(
        printable("\xc2\x9b"
                  "31m"),
        "?31m"
    ) << "C1 control";
    EXPECT_EQ(printable("ok ü 日"), "ok ü 日");
    EXPECT_EQ(printable("\xff\xc0\x80"), "???") << "broken and overlong";
    EXPECT_EQ(printable("\xed\xa0\x80"), "???") << "surrogate";
}

TEST(ProgressBar, Format) {
    EXPECT_EQ(format_bar(0, "x", 80), "[------------------------------]   0% x");
    EXPECT_EQ(format_bar(1, "x", 80), "[##############################] 100% x");
    EXPECT_EQ(format_bar(7, "x", 80), format_bar(1, "x", 80));
    EXPECT_EQ(format_bar(-1, "x", 80), format_bar(0, "x", 80));
    EXPECT_EQ(format_bar(NAN, "x", 80), format_bar(0, "x", 80));
    EXPECT_EQ(format_bar(0.5, "long label", 40).size(), 40U);
}

} // namespace
} // namespace thaw::ctl
