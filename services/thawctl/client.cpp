// SPDX-License-Identifier: MIT

#include "client.hpp"

#include "api/diskguard1.hpp"
#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "api/shares1.hpp"
#include "bus/json_value.hpp"
#include "exit_codes.hpp"

#include <unistd.h>

namespace thaw::ctl {

namespace {

// While somebody types a password.
constexpr Microseconds kInteractiveTimeout = 300 * kUsecPerSec;
// Reading properties needs nobody's leave.
constexpr Microseconds kReadTimeout = 5 * kUsecPerSec;

std::string_view unit_of(std::string_view destination) {
    if (destination == restore1::kBusName) return "thaw-restored.service";
    if (destination == pager1::kBusName) return "thaw-pagerd.service";
    if (destination == shares1::kBusName) return "thaw-sharesd.service";
    if (destination == diskguard1::kBusName) return "thaw-diskguardd.service";
    return {};
}

bool means_absent(std::string_view name) {
    return name == "org.freedesktop.DBus.Error.ServiceUnknown" ||
           name == "org.freedesktop.DBus.Error.NameHasNoOwner" ||
           name == "org.freedesktop.DBus.Error.Disconnected" ||
           name == "org.freedesktop.DBus.Error.NoServer" ||
           name.starts_with("org.freedesktop.DBus.Error.Spawn.") ||
           name.starts_with("org.freedesktop.systemd1.");
}

// A message that was sent has its serial number for good.
Result<BusMessage> copy_call(const Bus& bus, const BusMessage& sent) {
    auto* source = sent.get();
    THAW_TRY(
        auto copy, bus.new_call(
                       sd_bus_message_get_destination(source), sd_bus_message_get_path(source),
                       sd_bus_message_get_interface(source), sd_bus_message_get_member(source)
                   )
    );
    int r = sd_bus_message_rewind(source, 1);
    if (r >= 0) r = sd_bus_message_copy(copy.get(), source, 1);
    if (r < 0) return fail_errno(-r, "repeat call");
    return copy;
}

} // namespace

std::string Properties::text(const std::string& name) const {
    const auto found = values.find(name);
    return found != values.end() && found->second.is_string() ? found->second.get<std::string>()
                                                              : std::string();
}

std::uint64_t Properties::number(const std::string& name) const {
    const auto found = values.find(name);
    return found != values.end() && found->second.is_number_unsigned()
               ? found->second.get<std::uint64_t>()
               : 0;
}

double Properties::fraction(const std::string& name) const {
    const auto found = values.find(name);
    return found != values.end() && found->second.is_number() ? found->second.get<double>() : 0;
}

bool Properties::flag(const std::string& name) const {
    const auto found = values.find(name);
    return found != values.end() && found->second.is_boolean() && found->second.get<bool>();
}

Result<Properties> read_properties(BusMessage& message) {
    THAW_TRY(auto values, read_json_properties(message));
    return Properties{std::move(values)};
}

Result<> for_each_struct(
    BusMessage& reply, const char* contents, const std::function<Result<>(BusMessage&)>& row
) {
    const std::string in_struct = fmt::format("({})", contents);
    THAW_CHECK(reply.enter_container('a', in_struct.c_str()));
    for (;;) {
        THAW_TRY(const bool more, reply.enter_container('r', contents));
        if (!more) break;
        THAW_CHECK(row(reply));
        THAW_CHECK(reply.exit_container());
    }
    return reply.exit_container();
}

Error client_error(const sd_bus_error& error, std::string_view destination) {
    const std::string_view name = error.name != nullptr ? error.name : "";
    const std::string_view text = error.message != nullptr ? error.message : "";
    const auto unit = unit_of(destination);
    if (means_absent(name) && !unit.empty())
        return {
            EHOSTUNREACH, fmt::format(
                              "{} is not available: {} (see 'systemctl status {}')",
                              unit.substr(0, unit.find('.')), text, unit
                          )
        };
    auto known = error_from_bus(error);
    const auto message = name.starts_with("org.thaw.")
                             ? fmt::format("{}: {}", short_error_name(name), text)
                             : std::string(text.empty() ? name : text);
    return {known.bus_name(), known.code(), message};
}

Result<Client> Client::open(const OutputOptions& options) {
    register_bus_errors(restore1::kErrors);
    register_bus_errors(pager1::kErrors);
    register_bus_errors(shares1::kErrors);
    register_bus_errors(diskguard1::kErrors);
    auto bus = Bus::open_system();
    if (!bus) return fail(EHOSTUNREACH, "{} (is dbus.service running?)", bus.error().message());
    if (options.ask_password) (void)sd_bus_set_allow_interactive_authorization(bus->get(), 1);
    return Client(std::move(*bus), options.ask_password);
}

Result<BusMessage> Client::call(const BusMessage& message, Microseconds timeout) {
    const bool may_ask = ask_password_ && geteuid() != 0;
    if (timeout == 0 && may_ask) timeout = kInteractiveTimeout;
    auto reply = call_once(message, timeout);
    if (reply || !may_ask || agent_ ||
        reply.error().bus_name() != kErrorInteractiveAuthorizationRequired)
        return reply;
    // Only now: most calls need nobody's password, and on a desktop its own agent asks.
    auto agent = PolkitAgent::start();
    if (!agent) return reply;
    agent_.emplace(std::move(*agent));
    THAW_TRY(const auto again, copy_call(bus_, message));
    return call_once(again, timeout);
}

Result<BusMessage> Client::call_once(const BusMessage& message, Microseconds timeout) {
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message* reply = nullptr;
    const int r = sd_bus_call(bus_.get(), message.get(), timeout, &error, &reply);
    if (r >= 0) return BusMessage::adopt(reply);
    const char* destination = sd_bus_message_get_destination(message.get());
    auto failure = sd_bus_error_is_set(&error) != 0
                       ? client_error(error, destination != nullptr ? destination : "")
                       : Error(-r, errno_text(-r));
    sd_bus_error_free(&error);
    return std::unexpected(std::move(failure));
}

Result<Properties>
Client::properties(const char* destination, const std::string& path, const std::string& interface) {
    THAW_TRY(
        auto message, new_call(destination, path, "org.freedesktop.DBus.Properties", "GetAll")
    );
    THAW_CHECK(message.append("s", interface.c_str()));
    THAW_TRY(auto reply, call(message, kReadTimeout));
    return read_properties(reply);
}

} // namespace thaw::ctl
