// SPDX-License-Identifier: MIT
#pragma once

// One read of a unit's state from PID 1, in one GetAll() so that the values belong together.

#include "systemd/manager_client.hpp"

namespace thaw::systemd1 {

inline constexpr const char* kBusName = "org.freedesktop.systemd1";
inline constexpr const char* kPath = "/org/freedesktop/systemd1";
inline constexpr const char* kUnitPrefix = "/org/freedesktop/systemd1/unit";
inline constexpr const char* kManagerInterface = "org.freedesktop.systemd1.Manager";
inline constexpr const char* kUnitInterface = "org.freedesktop.systemd1.Unit";
inline constexpr const char* kJobInterface = "org.freedesktop.systemd1.Job";
inline constexpr const char* kPropertiesInterface = "org.freedesktop.DBus.Properties";

std::string unit_path(const std::string& unit);

// A call of the manager object; an Error when it cannot be built.
template <class... Args>
Result<BusMessage>
manager_call(const Bus& bus, const std::string& member, const char* types, Args... args) {
    THAW_TRY(auto message, bus.new_call(kBusName, kPath, kManagerInterface, member));
    THAW_CHECK(message.append(types, args...));
    return message;
}

// What is_gone() units look like when systemd does not even have them in memory.
UnitState not_loaded_state();

class UnitReader {
public:
    using Handler = std::function<void(Result<UnitState>)>;
    // Load: reads the unit's file if need be, so load_state is the truth about it. Systemd then
    // announces a new unit and drops it again when nobody uses it.
    // IfLoaded: never makes systemd load anything; a unit not in memory is not_loaded_state().
    enum class Mode { Load, IfLoaded };
    // Starts over when a read is under way. `handler` runs from the event loop; it may destroy the
    // reader.
    void start(Bus& bus, const std::string& unit, Mode mode, Handler handler);

private:
    void get_all(Bus& bus, const std::string& path, Handler handler);
    BusSlot call_;
};

} // namespace thaw::systemd1
