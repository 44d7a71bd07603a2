// SPDX-License-Identifier: MIT
#pragma once

// Error <-> D-Bus error names. A program registers its own table once at start (name <-> errno), so
// that sd-bus translates foreign replies back to errno; the generic names come from sd-bus itself.

#include "core/error.hpp"

#include <systemd/sd-bus.h>

#include <span>
#include <string>
#include <string_view>

namespace thaw {

struct BusErrorName {
    std::string_view name; // static storage
    int errno_value;
};

// The D-Bus names used by all of ours.
inline constexpr std::string_view kErrorInvalidArgs = "org.freedesktop.DBus.Error.InvalidArgs";
inline constexpr std::string_view kErrorAccessDenied = "org.freedesktop.DBus.Error.AccessDenied";
inline constexpr std::string_view kErrorInteractiveAuthorizationRequired =
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
inline constexpr std::string_view kErrorUnknownObject = "org.freedesktop.DBus.Error.UnknownObject";
inline constexpr std::string_view kErrorFailed = "org.freedesktop.DBus.Error.Failed";

// Makes the names known to sd-bus and to Error::bus_name() of replies. `names` must be static.
void register_bus_errors(std::span<const BusErrorName> names);

// Fills *error for a vtable handler; returns the negative errno sd-bus wants.
int set_bus_error(sd_bus_error* error, const Error& source);
// The Error of a reply: errno by table, bus_name when registered, message "name: text".
Error error_from_bus(const sd_bus_error& error);
// The bus name an Error goes out under: its own, or one derived from its errno.
std::string bus_name_of(const Error& error);

} // namespace thaw
