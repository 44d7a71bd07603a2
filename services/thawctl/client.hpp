// SPDX-License-Identifier: MIT
#pragma once

// thawctl's side of the bus: blocking calls (a client may), errors made readable.

#include "bus/bus.hpp"
#include "core/text.hpp"
#include "output.hpp"
#include "polkit_agent.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace thaw::ctl {

// Properties of one object; values as JSON (numbers, strings, booleans, arrays).
class Properties {
public:
    std::map<std::string, nlohmann::json> values;
    // Empty or 0 when the property is missing or of another type.
    std::string text(const std::string& name) const;
    std::uint64_t number(const std::string& name) const;
    double fraction(const std::string& name) const;
    bool flag(const std::string& name) const;
};

class Client {
public:
    // EHOSTUNREACH when there is no system bus.
    static Result<Client> open(const OutputOptions& options);

    Bus& bus() { return bus_; }
    Result<BusMessage> new_call(
        const char* destination, const std::string& path, const char* interface, const char* member
    ) const {
        return bus_.new_call(destination, path, interface, member);
    }
    // Sends and waits. EHOSTUNREACH when the service is not there (and cannot be activated).
    // timeout 0: the bus default, or long enough for a password where one may be asked for. Where
    // nobody is there to ask, polkit's agent for terminals is started and the call sent again.
    Result<BusMessage> call(const BusMessage& message, Microseconds timeout = 0);
    // new_call() + append() + call() on restore1's Manager.
    template <class... Args>
    Result<BusMessage> manager(const char* member, const char* types, Args... args) {
        return simple(
            "org.thaw.restore1", "/org/thaw/restore1", "org.thaw.restore1.Manager", member, types,
            args...
        );
    }
    template <class... Args>
    Result<BusMessage> simple(
        const char* destination, const std::string& path, const char* interface, const char* member,
        const char* types, Args... args
    ) {
        auto message = new_call(destination, path, interface, member);
        if (!message) return message;
        if (types[0] != '\0') THAW_CHECK(message->append(types, args...));
        return call(*message);
    }
    Result<Properties>
    properties(const char* destination, const std::string& path, const std::string& interface);

private:
    Client(Bus bus, bool ask_password) : bus_(std::move(bus)), ask_password_(ask_password) {}
    Result<BusMessage> call_once(const BusMessage& message, Microseconds timeout);
    Bus bus_;
    bool ask_password_;
    std::optional<PolkitAgent> agent_;
};

// Reads the dictionary a{sv} at the cursor.
Result<Properties> read_properties(BusMessage& message);
// Calls `row` for every struct of the array at the cursor; `contents` as in "sso".
Result<> for_each_struct(
    BusMessage& reply, const char* contents, const std::function<Result<>(BusMessage&)>& row
);
// The error of a reply, with what a user can do about it where that is known.
Error client_error(const sd_bus_error& error, std::string_view destination);

} // namespace thaw::ctl
