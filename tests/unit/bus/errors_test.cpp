// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "bus/errors.hpp"
#include "bus/vtable.hpp"

#include <gtest/gtest.h>

#include <new>
#include <string>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw {
namespace {

TEST(BusErrors, NamedErrorGoesOutUnderItsName) {
    sd_bus_error reply = SD_BUS_ERROR_NULL;
    const Error error(pager1::error::kStoreFull, ENOSPC, "no slot left");
    EXPECT_LT(set_bus_error(&reply, error), 0);
    EXPECT_STREQ(reply.name, "org.thaw.pager1.Error.StoreFull");
    EXPECT_STREQ(reply.message, "no slot left");
    sd_bus_error_free(&reply);
}

TEST(BusErrors, ErrnoBecomesGenericName) {
    EXPECT_EQ(bus_name_of({EINVAL, "x"}), kErrorInvalidArgs);
    EXPECT_EQ(bus_name_of({EACCES, "x"}), kErrorAccessDenied);
    EXPECT_EQ(bus_name_of({EPERM, "x"}), kErrorAccessDenied);
    EXPECT_EQ(bus_name_of({ENOENT, "x"}), "org.freedesktop.DBus.Error.FileNotFound");
    EXPECT_EQ(bus_name_of({ETIMEDOUT, "x"}), "org.freedesktop.DBus.Error.Timeout");
    EXPECT_EQ(bus_name_of({EBUSY, "x"}), "System.Error.EBUSY");
}

TEST(BusErrors, EveryRegisteredNameComesBackWithErrnoAndName) {
    register_bus_errors(pager1::kErrors);
    register_bus_errors(pager1::kErrors); // a second time changes nothing
    for (const auto& row : pager1::kErrors) {
        const sd_bus_error reply = SD_BUS_ERROR_MAKE_CONST(row.name.data(), "why");
        const auto error = error_from_bus(reply);
        EXPECT_EQ(error.code(), row.errno_value) << row.name;
        EXPECT_EQ(error.bus_name(), row.name);
        EXPECT_EQ(error.message(), std::string(row.name) + ": why");
    }
}

TEST(BusErrors, ForeignNameStaysInTheMessageOnly) {
    const sd_bus_error reply = SD_BUS_ERROR_MAKE_CONST("org.example.Error.Odd", "text");
    const auto error = error_from_bus(reply);
    EXPECT_EQ(error.code(), EIO);
    EXPECT_TRUE(error.bus_name().empty());
    EXPECT_EQ(error.message(), "org.example.Error.Odd: text");
}

TEST(BusErrors, SystemErrnoRoundTrips) {
    sd_bus_error reply = SD_BUS_ERROR_NULL;
    set_bus_error(&reply, {EBUSY, "in use"});
    EXPECT_EQ(error_from_bus(reply).code(), EBUSY);
    sd_bus_error_free(&reply);
}

TEST(BusErrors, ErrorWithoutContent) {
    EXPECT_EQ(error_from_bus(SD_BUS_ERROR_NULL).code(), EIO);
}

// Both trampolines are C callbacks: out of memory must become an answer, not an exception.
struct Exhausted {
    Result<> method(BusMessage) { throw std::bad_alloc(); }
    Result<> property(BusMessage&) const { throw std::bad_alloc(); }
};

TEST(BusErrors, BadAllocBecomesNoMemory) {
    Exhausted object;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    EXPECT_LT((bus_method<Exhausted, &Exhausted::method>(nullptr, &object, &error)), 0);
    EXPECT_TRUE(sd_bus_error_has_name(&error, SD_BUS_ERROR_NO_MEMORY));
    error = SD_BUS_ERROR_NULL;
    EXPECT_LT(
        (bus_property<Exhausted, &Exhausted::property>(
            nullptr, nullptr, nullptr, nullptr, nullptr, &object, &error
        )),
        0
    );
    EXPECT_TRUE(sd_bus_error_has_name(&error, SD_BUS_ERROR_NO_MEMORY));
}

} // namespace
} // namespace thaw

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
