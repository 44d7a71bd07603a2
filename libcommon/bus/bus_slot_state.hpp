// SPDX-License-Identifier: MIT
#pragma once

// What stands behind a BusSlot. Internal to bus/.

#include "bus/bus.hpp"

#include <memory>
#include <string>
#include <vector>

namespace thaw {

// The name and path of the bus driver itself.
inline constexpr const char* kDriver = "org.freedesktop.DBus";
inline constexpr const char* kDriverPath = "/org/freedesktop/DBus";

// sd-bus takes a null pointer for "any".
inline const char* or_null(const std::string& text) {
    return text.empty() ? nullptr : text.c_str();
}

// Shared between the handle and a running callback, so that a callback may drop its own handle.
struct BusSlot::State : std::enable_shared_from_this<State> {
    sd_bus_slot* slot = nullptr;
    sd_event_source* deferred = nullptr;
    Error failure{0, {}};
    bool driver_only = false;
    Bus::ReplyHandler on_reply;
    Bus::SignalHandler on_signal;
    Bus::FindObject find;
    Bus::ListObjects list;
    std::vector<BusSlot> parts;

    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() { drop(); }

    // Ends delivery. The callbacks stay until the last reference goes: one may be running.
    void drop() noexcept;

    // What sd-bus calls; `userdata` is the State. noexcept: an exception ends the process here,
    // with its text, instead of unwinding through C.
    static int on_reply_message(sd_bus_message* message, void* userdata, sd_bus_error*) noexcept;
    static int on_deferred(sd_event_source*, void* userdata) noexcept;
    static int on_signal_message(sd_bus_message* message, void* userdata, sd_bus_error*) noexcept;
    static int
    find_object(sd_bus*, const char* path, const char*, void* userdata, void** found, sd_bus_error*) noexcept;
    static int
    list_objects(sd_bus*, const char*, void* userdata, char*** nodes, sd_bus_error*) noexcept;
};

// While it lives, the callbacks of this connection stay silent: its last messages are being sent.
class ClosingBus {
public:
    explicit ClosingBus(sd_bus* bus) noexcept;
    ~ClosingBus();
    ClosingBus(const ClosingBus&) = delete;
    ClosingBus& operator=(const ClosingBus&) = delete;
};

} // namespace thaw
