// SPDX-License-Identifier: MIT
#pragma once

// An object with a method for every way a handler can end, for the bus tests.

#include "bus/vtable.hpp"

#include <array>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {

inline constexpr const char* kEchoInterface = "org.thaw.test1.Echo";
inline constexpr std::string_view kNamedError = "org.thaw.test1.Error.Named";
inline constexpr std::array kTestErrors{BusErrorName{kNamedError, EBUSY}};

struct Echo {
    std::string text = "hello";
    BusMessage kept;
    unsigned calls = 0;

    Result<> method_say(BusMessage message) {
        ++calls;
        const char* said = nullptr;
        THAW_CHECK(message.read("s", &said));
        return message.reply("s", said);
    }
    Result<> method_keep(BusMessage message) {
        kept = std::move(message);
        return {};
    }
    Result<> method_fail(BusMessage) { return fail_named(kNamedError, EBUSY, "as asked"); }
    Result<> method_refuse(BusMessage) { return fail_errno(EACCES, "look"); }
    Result<> append_text(BusMessage& reply) const { return reply.append("s", text.c_str()); }
    Result<> append_bad(BusMessage&) const { return fail_named(kNamedError, EBUSY, "no value"); }
};

inline constexpr sd_bus_vtable kEchoVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS(
        "Say", SD_BUS_ARGS("s", text), SD_BUS_RESULT("s", text),
        (bus_method<Echo, &Echo::method_say>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "Keep", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, (bus_method<Echo, &Echo::method_keep>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "Fail", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, (bus_method<Echo, &Echo::method_fail>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "Refuse", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, (bus_method<Echo, &Echo::method_refuse>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_PROPERTY(
        "Text", "s", (bus_property<Echo, &Echo::append_text>), 0,
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "Bad", "s", (bus_property<Echo, &Echo::append_bad>), 0, SD_BUS_VTABLE_PROPERTY_EXPLICIT
    ),
    SD_BUS_SIGNAL_WITH_ARGS("Rang", SD_BUS_ARGS("s", who), 0),
    SD_BUS_VTABLE_END
};

} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
