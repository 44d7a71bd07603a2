// SPDX-License-Identifier: MIT

// The bus, the daemons on it and their units.

#include "api/diskguard1.hpp"
#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "doctor.hpp"
#include "guard_view.hpp"

#include <algorithm>

namespace thaw::ctl {

namespace {

constexpr const char* kSystemd = "org.freedesktop.systemd1";
constexpr const char* kSystemdPath = "/org/freedesktop/systemd1";
constexpr const char* kSystemdManager = "org.freedesktop.systemd1.Manager";
constexpr const char* kDriver = "org.freedesktop.DBus";

// Sessions keep a handful of descriptors each, in the broker and while workers are forked.
constexpr std::uint64_t kEnoughFiles = 16384;
// The message rings are locked.
constexpr std::uint64_t kEnoughLocked = 8 << 20;

Result<bool> has_owner(Client& client, const char* name) {
    THAW_TRY(
        auto reply,
        client.simple(kDriver, "/org/freedesktop/DBus", kDriver, "NameHasOwner", "s", name)
    );
    int owned = 0;
    THAW_CHECK(reply.read("b", &owned));
    return owned != 0;
}

// The bus starts it when it is first asked for.
Result<bool> is_activatable(Client& client, std::string_view name) {
    THAW_TRY(
        auto reply,
        client.simple(kDriver, "/org/freedesktop/DBus", kDriver, "ListActivatableNames", "")
    );
    THAW_CHECK(reply.enter_container('a', "s"));
    while (true) {
        const char* known = nullptr;
        THAW_CHECK(reply.read("s", &known));
        if (known == nullptr) return false; // the end of the array
        if (name == known) return true;
    }
}

void check_polkit(Client& client, Findings& findings) {
    constexpr const char* kPolkit = "org.freedesktop.PolicyKit1";
    const bool running = has_owner(client, kPolkit).value_or(false);
    const bool there = running || is_activatable(client, kPolkit).value_or(false);
    findings.push_back(
        {"bus.polkit", there ? Verdict::Ok : Verdict::Note,
         running ? "polkit is on the bus"
         : there ? "polkit starts when it is asked"
                 : "polkit is not installed",
         there ? "" : "without polkit only root may restore and stop VMs"}
    );
}

void check_name(Client& client, const char* name, const char* unit, Findings& findings) {
    const auto owned = has_owner(client, name);
    const bool good = owned && *owned;
    findings.push_back(
        {fmt::format("bus.{}", name), good ? Verdict::Ok : Verdict::Failed,
         good    ? "on the bus"
         : owned ? "not on the bus"
                 : owned.error().message(),
         good ? "" : fmt::format("systemctl start {}; systemctl status {}", unit, unit)}
    );
}

Result<std::string> unit_file_state(Client& client, const char* unit) {
    THAW_TRY(
        auto reply,
        client.simple(kSystemd, kSystemdPath, kSystemdManager, "GetUnitFileState", "s", unit)
    );
    const char* state = nullptr;
    THAW_CHECK(reply.read("s", &state));
    return std::string(state);
}

struct UnitRule {
    const char* unit;
    bool enabled; // must be enabled; else being there is enough
};
constexpr UnitRule kUnits[] = {
    {"thaw-restored.service", true},      {"thaw-pagerd.service", true},
    {"thaw-pagerd.socket", true},         {"thaw-pager-workers.service", false},
    {"thaw-firecracker@.service", false}, {"thaw-instance@.service", false},
    {"thaw-diskguardd.service", true},    {"thaw-fetchd.socket", true},
};

Finding check_unit_file(Client& client, const UnitRule& rule) {
    const auto check = fmt::format("unit.{}", rule.unit);
    const auto state = unit_file_state(client, rule.unit);
    if (!state)
        return {
            check, Verdict::Failed, "not installed: " + state.error().message(),
            "install thaw's units and run 'systemctl daemon-reload'"
        };
    if (*state == "masked" || *state == "masked-runtime")
        return {check, Verdict::Failed, "masked", fmt::format("systemctl unmask {}", rule.unit)};
    const bool on = state->starts_with("enabled") || *state == "alias" || *state == "static";
    if (rule.enabled && !on)
        return {
            check, Verdict::Warning, *state, fmt::format("systemctl enable --now {}", rule.unit)
        };
    return {check, Verdict::Ok, *state, ""};
}

Result<Properties> service_properties(Client& client, const char* unit) {
    THAW_TRY(
        auto reply, client.simple(kSystemd, kSystemdPath, kSystemdManager, "LoadUnit", "s", unit)
    );
    const char* path = nullptr;
    THAW_CHECK(reply.read("o", &path));
    return client.properties(kSystemd, path, "org.freedesktop.systemd1.Service");
}

void check_limits(Client& client, const char* unit, Findings& findings) {
    const auto service = service_properties(client, unit);
    if (!service || service->values.empty()) return; // said by the check of the unit itself
    const auto files = service->number("LimitNOFILE");
    const auto locked = service->number("LimitMEMLOCK");
    const bool good = files >= kEnoughFiles && locked >= kEnoughLocked;
    const auto show = [](std::uint64_t limit) {
        return limit == UINT64_MAX ? std::string("infinity") : std::to_string(limit);
    };
    findings.push_back(
        {fmt::format("limits.{}", unit), good ? Verdict::Ok : Verdict::Warning,
         fmt::format("LimitNOFILE={} LimitMEMLOCK={}", show(files), show(locked)),
         good ? ""
              : fmt::format(
                    "raise LimitNOFILE= to {} and LimitMEMLOCK= to {} with 'systemctl edit {}'",
                    kEnoughFiles, format_size(kEnoughLocked), unit
                )}
    );
}

} // namespace

void check_bus(Result<Client>& client, Findings& findings) {
    if (!client) {
        findings.push_back(
            {"bus", Verdict::Failed, client.error().message(),
             "start dbus.socket, or set DBUS_SYSTEM_BUS_ADDRESS"}
        );
        return;
    }
    findings.push_back({"bus", Verdict::Ok, "the system bus answers", ""});
    check_name(*client, restore1::kBusName, "thaw-restored.service", findings);
    check_name(*client, pager1::kBusName, "thaw-pagerd.service", findings);
    check_name(*client, diskguard1::kBusName, "thaw-diskguardd.service", findings);
    check_polkit(*client, findings);
}

void check_units(Client& client, Findings& findings) {
    const auto systemd = has_owner(client, kSystemd);
    if (!systemd || !*systemd) {
        findings.push_back(
            {"systemd", Verdict::Failed, "systemd is not on the bus",
             "thaw needs systemd as PID 1 and its bus"}
        );
        return;
    }
    for (const auto& rule : kUnits)
        findings.push_back(check_unit_file(client, rule));
    // Workers are forked by the broker and keep its limits wherever they are moved to.
    check_limits(client, "thaw-pagerd.service", findings);
}

void check_reserves(Client& client, Findings& findings) {
    if (!has_guardian(client)) return; // said by the check of its name
    const auto view = read_guard(client);
    if (!view) {
        findings.push_back(
            {"reserve", Verdict::Failed, view.error().message(), "journalctl -u thaw-diskguardd"}
        );
        return;
    }
    for (const auto& volume : view->volumes) {
        const auto planned = volume.number("PlannedBytes");
        const auto releasable = volume.number("ReleasableBytes");
        const auto rearm = volume.text("Rearm");
        const bool coming = rearm == "waiting" || rearm == "lay";
        auto verdict = Verdict::Ok;
        if (releasable < planned) verdict = coming ? Verdict::Note : Verdict::Warning;
        if (releasable == 0 && planned > 0 && !coming) verdict = Verdict::Failed;
        findings.push_back(
            {fmt::format("reserve.{}", volume.text("MountPoint")), verdict,
             fmt::format(
                 "{}, {} of {} can be released{}", volume.text("State"), format_size(releasable),
                 format_size(planned), coming ? ", the rest comes in a moment" : ""
             ),
             verdict == Verdict::Warning || verdict == Verdict::Failed
                 ? "see why with 'thawctl reserve status'"
                 : ""}
        );
    }
}

} // namespace thaw::ctl
