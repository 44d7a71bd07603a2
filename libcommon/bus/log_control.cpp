// SPDX-License-Identifier: MIT
#include "bus/log_control.hpp"

#include "bus/errors.hpp"
#include "core/enum_table.hpp"
#include "log/log.hpp"

#include <new>

namespace thaw {

namespace {

using std::string_view_literals::operator""sv;

// systemd's words for log targets.
constexpr EnumTable kTargets{std::array{
    std::pair{LogTarget::Auto, "auto"sv},
    std::pair{LogTarget::Journal, "journal"sv},
    std::pair{LogTarget::Stderr, "console"sv},
}};

int append_text(sd_bus_message* reply, std::string_view text) {
    return sd_bus_message_append(reply, "s", std::string(text).c_str());
}

int get_property(sd_bus*, const char*, const char*, const char* property, sd_bus_message* reply, void*, sd_bus_error*) noexcept {
    if (property == "LogLevel"sv) return append_text(reply, log_level_name(log_level()));
    if (property == "LogTarget"sv) return append_text(reply, kTargets.name(log_target()));
    return append_text(reply, log_identifier());
}

int set_property(
    sd_bus*, const char*, const char*, const char* property, sd_bus_message* value, void*,
    sd_bus_error* error
) noexcept {
    const char* word = nullptr;
    const int r = sd_bus_message_read(value, "s", &word);
    if (r < 0) return r;
    if (property == "LogLevel"sv) {
        const auto level = log_level_from_string(word);
        if (!level) return set_bus_error(error, {EINVAL, fmt::format("no log level {}", word)});
        set_log_level(*level);
    } else {
        const auto target = kTargets.value(word);
        if (!target) return set_bus_error(error, {EINVAL, fmt::format("no log target {}", word)});
        set_log_target(*target);
    }
    return 0;
}

constexpr sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    // Without SD_BUS_VTABLE_UNPRIVILEGED sd-bus lets only root and our own user set them.
    SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_property, set_property, 0, 0),
    SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_property, set_property, 0, 0),
    SD_BUS_PROPERTY("SyslogIdentifier", "s", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_VTABLE_END
};

} // namespace

Result<BusSlot> export_log_control(Bus& bus) {
    return bus.add_object(
        "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1", kVtable, nullptr
    );
}

} // namespace thaw
