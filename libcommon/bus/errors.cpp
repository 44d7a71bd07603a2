// SPDX-License-Identifier: MIT
#include "bus/errors.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <vector>

namespace thaw {

namespace {

// sd-bus keeps the pointers it is given until the process ends, and so do Errors.
struct ErrorRegistry {
    std::deque<std::vector<sd_bus_error_map>> maps;
    std::vector<std::string_view> names{
        kErrorInvalidArgs, kErrorAccessDenied, kErrorInteractiveAuthorizationRequired,
        kErrorUnknownObject
    };

    // The registered name in static storage, or empty.
    std::string_view find(std::string_view name) const {
        auto found = std::find(names.begin(), names.end(), name);
        return found == names.end() ? std::string_view{} : *found;
    }
};

ErrorRegistry& registry() {
    // Never destroyed: sd-bus may look at it as late as in other static destructors.
    static auto* const instance = new ErrorRegistry;
    return *instance;
}

} // namespace

void register_bus_errors(std::span<const BusErrorName> names) {
    auto& known = registry();
    std::vector<sd_bus_error_map> map;
    for (const auto& row : names) {
        if (!known.find(row.name).empty()) continue;
        known.names.push_back(row.name);
        // The names are literals, so data() ends with NUL.
        // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage)
        map.push_back({.name = row.name.data(), .code = row.errno_value});
    }
    if (map.empty()) return;
    map.push_back(SD_BUS_ERROR_MAP_END);
    known.maps.push_back(std::move(map));
    const int r = sd_bus_error_add_map(known.maps.back().data());
    THAW_INVARIANT(r >= 0);
}

std::string bus_name_of(const Error& error) {
    if (!error.bus_name().empty()) return std::string(error.bus_name());
    sd_bus_error derived = SD_BUS_ERROR_NULL;
    sd_bus_error_set_errno(&derived, error.code());
    std::string name = derived.name != nullptr ? derived.name : SD_BUS_ERROR_FAILED;
    sd_bus_error_free(&derived);
    return name;
}

int set_bus_error(sd_bus_error* error, const Error& source) {
    const int r = sd_bus_error_set(error, bus_name_of(source).c_str(), source.message().c_str());
    return r < 0 ? r : -EIO;
}

Error error_from_bus(const sd_bus_error& error) {
    if (sd_bus_error_is_set(&error) == 0) return {EIO, "bus error without a name"};
    const int code = sd_bus_error_get_errno(&error);
    std::string text = error.name;
    if (error.message != nullptr && *error.message != '\0') text.append(": ").append(error.message);
    return {registry().find(error.name), code > 0 ? code : EIO, std::move(text)};
}

} // namespace thaw
