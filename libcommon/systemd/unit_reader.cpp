// SPDX-License-Identifier: MIT
#include "systemd/unit_reader.hpp"

#include "bus/errors.hpp"
#include "bus/properties.hpp"

#include <fmt/ranges.h>

#include <span>
#include <string_view>

namespace thaw::systemd1 {

namespace {

using std::string_view_literals::operator""sv;

Result<> read_text(BusMessage& message, std::string& target) {
    const char* text = nullptr;
    THAW_CHECK(message.read("v", "s", &text));
    target = text;
    return {};
}

// 16 bytes, or none.
Result<> read_id(BusMessage& message, std::string& target) {
    THAW_CHECK(message.enter_container('v', "ay"));
    const void* data = nullptr;
    std::size_t size = 0;
    if (const int r = sd_bus_message_read_array(message.get(), 'y', &data, &size); r < 0)
        return fail_errno(-r, "read an array");
    const std::span bytes(static_cast<const std::uint8_t*>(data), size);
    target = fmt::format("{:02x}", fmt::join(bytes, ""));
    return message.exit_container();
}

Result<> read_property(BusMessage& message, std::string_view name, UnitState& state) {
    if (name == "LoadState"sv) return read_text(message, state.load_state);
    if (name == "ActiveState"sv) return read_text(message, state.active_state);
    if (name == "SubState"sv) return read_text(message, state.sub_state);
    if (name == "Result"sv) return read_text(message, state.result);
    if (name == "InvocationID"sv) return read_id(message, state.invocation);
    if (name == "ExecMainCode"sv) return message.read("v", "i", &state.exec_main_code);
    if (name == "ExecMainStatus"sv) return message.read("v", "i", &state.exec_main_status);
    if (name == "ActiveExitTimestampMonotonic"sv) return message.read("v", "t", &state.left_active);
    if (name == "ExecMainExitTimestampMonotonic"sv)
        return message.read("v", "t", &state.main_ended);
    if (name == "MainPID"sv) {
        std::uint32_t pid = 0;
        THAW_CHECK(message.read("v", "u", &pid));
        state.main_pid = static_cast<pid_t>(pid);
        return {};
    }
    return message.skip("v");
}

Result<UnitState> read_state(BusMessage& message) {
    UnitState state;
    THAW_CHECK(for_each_property(message, [&](std::string_view name) {
        return read_property(message, name, state);
    }));
    if (state.active_state.empty()) return fail(EBADMSG, "systemd told no ActiveState");
    return state;
}

bool means_not_loaded(const Error& error) {
    return error.bus_name() == kErrorNoSuchUnit || error.bus_name() == kErrorUnknownObject;
}

} // namespace

std::string unit_path(const std::string& unit) {
    return encode_object_path(kUnitPrefix, unit);
}

UnitState not_loaded_state() {
    UnitState state;
    state.load_state = "not-found";
    state.active_state = "inactive";
    state.sub_state = "dead";
    return state;
}

void UnitReader::start(Bus& bus, const std::string& unit, Mode mode, Handler handler) {
    if (mode == Mode::Load) {
        get_all(bus, unit_path(unit), std::move(handler));
        return;
    }
    call_ = bus.call(
        manager_call(bus, "GetUnit", "s", unit.c_str()),
        [this, &bus, unit, handler = std::move(handler)](Result<BusMessage> reply) {
            if (reply)
                get_all(bus, unit_path(unit), handler);
            else if (means_not_loaded(reply.error()))
                handler(not_loaded_state());
            else
                handler(std::unexpected(std::move(reply).error()));
        }
    );
}

void UnitReader::get_all(Bus& bus, const std::string& path, Handler handler) {
    auto message = bus.new_call(kBusName, path, kPropertiesInterface, "GetAll");
    // The empty name stands for all interfaces: Unit and Service in one go.
    if (message)
        if (auto filled = message->append("s", ""); !filled)
            message = std::unexpected(std::move(filled).error());
    call_ = bus.call(std::move(message), [handler = std::move(handler)](Result<BusMessage> reply) {
        if (reply)
            handler(read_state(*reply));
        else if (means_not_loaded(reply.error()))
            handler(not_loaded_state());
        else
            handler(std::unexpected(std::move(reply).error()));
    });
}

} // namespace thaw::systemd1
