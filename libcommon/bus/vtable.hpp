// SPDX-License-Identifier: MIT
#pragma once

// Bridges from sd-bus's C tables to member functions. The trampolines are noexcept; an Error
// becomes the error reply (bus/errors.hpp), std::bad_alloc becomes NoMemory.
//
//   SD_BUS_METHOD_WITH_ARGS("Stop", SD_BUS_ARGS("t", flags), SD_BUS_NO_RESULT,
//                           (bus_method<Instance, &Instance::method_stop>),
//                           SD_BUS_VTABLE_UNPRIVILEGED)
//   SD_BUS_PROPERTY("State", "s", (bus_property<Instance, &Instance::append_state>), 0,
//                   SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)
//
// A method handler either replies through the message before it returns, or keeps the message and
// replies later; both return success.

#include "bus/errors.hpp"
#include "bus/message.hpp"

#include <new>

namespace thaw {

template <class T, Result<> (T::*Method)(BusMessage)>
int bus_method(sd_bus_message* message, void* userdata, sd_bus_error* error) noexcept {
    try {
        auto done = (static_cast<T*>(userdata)->*Method)(BusMessage::share(message));
        return done ? 1 : set_bus_error(error, done.error());
    } catch (const std::bad_alloc&) {
        return sd_bus_error_set_const(error, SD_BUS_ERROR_NO_MEMORY, "Out of memory");
    }
}

template <class T, Result<> (T::*Getter)(BusMessage&) const>
int bus_property(
    sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* userdata,
    sd_bus_error* error
) noexcept {
    try {
        auto message = BusMessage::share(reply);
        auto done = (static_cast<const T*>(userdata)->*Getter)(message);
        return done ? 1 : set_bus_error(error, done.error());
    } catch (const std::bad_alloc&) {
        return sd_bus_error_set_const(error, SD_BUS_ERROR_NO_MEMORY, "Out of memory");
    }
}

} // namespace thaw
