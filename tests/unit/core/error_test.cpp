// SPDX-License-Identifier: MIT
#include "core/enum_table.hpp"
#include "core/error.hpp"

#include <gtest/gtest.h>

namespace thaw {
namespace {

TEST(Error, ContextGoesInFrontAndTheRestStays) {
    const Error error = Error("org.thaw.Error.Inner", EACCES, "inner").with_context("outer");
    EXPECT_EQ(error.message(), "outer: inner");
    EXPECT_EQ(error.code(), EACCES);
    EXPECT_EQ(error.bus_name(), "org.thaw.Error.Inner");
}

TEST(Error, BusNameIsGivenOnceAndKept) {
    Error error = Error(EIO, "x").with_bus_name("org.thaw.Error.First");
    error = std::move(error).with_bus_name("org.thaw.Error.Second");
    EXPECT_EQ(error.bus_name(), "org.thaw.Error.First");
}

TEST(Error, FailuresOfSystemCallsEndInTheirText) {
    const Result<> failed = fail_errno(EACCES, "open {}", "/x");
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().message(), "open /x: Permission denied");
    EXPECT_EQ(errno_text(99999), "Unknown error 99999");
}

Result<int> doubled(Result<int> input) {
    THAW_TRY(const int value, std::move(input));
    THAW_CHECK(value < 0 ? Result<>(fail(ERANGE, "negative")) : Result<>());
    return value * 2;
}

TEST(Error, TryAndCheckReturnEarly) {
    EXPECT_EQ(doubled(21).value(), 42);
    EXPECT_EQ(doubled(-1).error().code(), ERANGE);
    EXPECT_EQ(doubled(fail(ENOENT, "none")).error().code(), ENOENT);
}

TEST(InvariantDeathTest, EndsTheProcessAndSaysWhere) {
    const int one = 1;
    EXPECT_DEATH(THAW_INVARIANT(one == 2), "error_test.cpp:[0-9]+: broken invariant: one == 2");
}

enum class Color { Red, Green };

TEST(EnumTable, NamesBothWays) {
    using namespace std::string_view_literals;
    constexpr EnumTable kNames{
        std::array{std::pair{Color::Red, "red"sv}, std::pair{Color::Green, "green"sv}}
    };
    EXPECT_EQ(kNames.name(Color::Green), "green");
    EXPECT_EQ(kNames.value("red"), Color::Red);
    EXPECT_EQ(kNames.value("blue"), std::nullopt);
    EXPECT_EQ(kNames.name(static_cast<Color>(7)), "invalid");
}

} // namespace
} // namespace thaw
