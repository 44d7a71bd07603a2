// SPDX-License-Identifier: MIT
#include "bus/vtable.hpp"
#include "fakes/fake_systemd_internal.hpp"

#include <fnmatch.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <type_traits>

// The bus side of the fake: tables and method handlers.

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::fakes {

using namespace systemd1;

namespace {

template <std::string FakeUnit::* Field>
int get_unit_text(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* unit, sd_bus_error*) {
    return sd_bus_message_append(reply, "s", (static_cast<FakeUnit*>(unit)->*Field).c_str());
}

template <class T, T FakeUnit::* Field>
int get_unit_number(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* unit, sd_bus_error*) {
    constexpr char kType = sizeof(T) == sizeof(std::uint64_t) ? 't'
                           : std::is_signed_v<T>              ? 'i'
                                                              : 'u';
    return sd_bus_message_append_basic(reply, kType, &(static_cast<FakeUnit*>(unit)->*Field));
}

} // namespace

struct FakeSystemd::Vtables {
    static const std::array<sd_bus_vtable, 18> manager;
    static const std::array<sd_bus_vtable, 6> unit;
    static const std::array<sd_bus_vtable, 7> service;
    static const std::array<sd_bus_vtable, 4> job;
};

const std::array<sd_bus_vtable, 18> FakeSystemd::Vtables::manager{{
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD(
        "StartUnit", "ss", "o", (bus_method<FakeSystemd, &FakeSystemd::method_start>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "StopUnit", "ss", "o", (bus_method<FakeSystemd, &FakeSystemd::method_stop>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "KillUnit", "ssi", "", (bus_method<FakeSystemd, &FakeSystemd::method_kill>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "ResetFailedUnit", "s", "", (bus_method<FakeSystemd, &FakeSystemd::method_reset_failed>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "Subscribe", "", "", (bus_method<FakeSystemd, &FakeSystemd::method_subscribe>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "GetUnit", "s", "o", (bus_method<FakeSystemd, &FakeSystemd::method_get_unit>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "LoadUnit", "s", "o", (bus_method<FakeSystemd, &FakeSystemd::method_load_unit>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "GetUnitByPID", "u", "o", (bus_method<FakeSystemd, &FakeSystemd::method_get_unit_by_pid>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "ListUnitsByPatterns", "asas", "a(ssssssouso)",
        (bus_method<FakeSystemd, &FakeSystemd::method_list>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "AttachProcessesToUnit", "ssau", "", (bus_method<FakeSystemd, &FakeSystemd::method_attach>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_SIGNAL("JobNew", "uos", 0),
    SD_BUS_SIGNAL("JobRemoved", "uoss", 0),
    SD_BUS_SIGNAL("UnitNew", "so", 0),
    SD_BUS_SIGNAL("UnitRemoved", "so", 0),
    SD_BUS_SIGNAL("Reloading", "b", 0),
    SD_BUS_VTABLE_END,
}};

const std::array<sd_bus_vtable, 6> FakeSystemd::Vtables::unit{{
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY(
        "LoadState", "s", get_unit_text<&FakeUnit::load_state>, 0, SD_BUS_VTABLE_PROPERTY_CONST
    ),
    SD_BUS_PROPERTY(
        "ActiveState", "s", get_unit_text<&FakeUnit::active_state>, 0,
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "SubState", "s", get_unit_text<&FakeUnit::sub_state>, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "ActiveExitTimestampMonotonic", "t",
        (get_unit_number<std::uint64_t, &FakeUnit::left_active>), 0, 0
    ),
    SD_BUS_VTABLE_END,
}};

const std::array<sd_bus_vtable, 7> FakeSystemd::Vtables::service{{
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY(
        "Result", "s", get_unit_text<&FakeUnit::result>, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "MainPID", "u", (get_unit_number<std::uint32_t, &FakeUnit::main_pid>), 0,
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "ExecMainCode", "i", (get_unit_number<std::int32_t, &FakeUnit::exec_main_code>), 0,
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "ExecMainStatus", "i", (get_unit_number<std::int32_t, &FakeUnit::exec_main_status>), 0,
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "ExecMainExitTimestampMonotonic", "t",
        (get_unit_number<std::uint64_t, &FakeUnit::main_ended>), 0, 0
    ),
    SD_BUS_VTABLE_END,
}};

const std::array<sd_bus_vtable, 4> FakeSystemd::Vtables::job{{
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY(
        "Unit", "(so)", (bus_property<Job, &Job::append_unit>), 0, SD_BUS_VTABLE_PROPERTY_CONST
    ),
    SD_BUS_PROPERTY(
        "Id", "u", (bus_property<Job, &Job::append_id>), 0, SD_BUS_VTABLE_PROPERTY_CONST
    ),
    SD_BUS_VTABLE_END,
}};

Result<> FakeSystemd::go_public(bool own_name) {
    auto keep = [this](Result<BusSlot> slot) -> Result<> {
        if (!slot) return std::unexpected(std::move(slot).error());
        slots_.push_back(std::move(*slot));
        return {};
    };
    auto find_unit = [this](const std::string& path) { return find_unit_object(path); };
    auto find_job = [this](const std::string& path) { return find_job_object(path); };
    THAW_CHECK(keep(bus_->add_object(kPath, kManager, Vtables::manager.data(), this)));
    THAW_CHECK(keep(bus_->add_objects(kUnitPrefix, kUnitInterface, Vtables::unit.data(), find_unit))
    );
    THAW_CHECK(
        keep(bus_->add_objects(kUnitPrefix, kServiceInterface, Vtables::service.data(), find_unit))
    );
    THAW_CHECK(keep(bus_->add_objects(kJobPrefix, kJobInterface, Vtables::job.data(), find_job)));
    if (own_name)
        slots_.push_back(bus_->request_name(kName, [this](Result<> done) {
            owns_name_ = done.has_value();
        }));
    return {};
}

Result<> FakeSystemd::method_kill(BusMessage message) {
    const char *name = nullptr, *who = nullptr;
    int signal = 0;
    THAW_CHECK(message.read("ssi", &name, &who, &signal));
    note({.member = "KillUnit", .unit = name, .mode = who, .signal = signal});
    if (!kill_error_.empty()) {
        sd_bus_reply_method_errorf(message.get(), kill_error_.c_str(), "Planned failure");
        return {};
    }
    const std::string unit_name = name;
    if (unit(unit_name) == nullptr)
        return fail_named(kNoSuchUnit, ENOENT, "Unit {} not loaded.", unit_name);
    THAW_CHECK(message.reply_empty());
    if (signal == SIGKILL) {
        end_unit(unit_name, "signal");
        finish_job(unit_name, "done");
    }
    return {};
}

Result<> FakeSystemd::method_reset_failed(BusMessage message) {
    const char* name = nullptr;
    THAW_CHECK(message.read("s", &name));
    note({.member = "ResetFailedUnit", .unit = name});
    auto* known = unit(name);
    if (known == nullptr) return fail_named(kNoSuchUnit, ENOENT, "Unit {} not loaded.", name);
    if (known->active_state == "failed") end_unit(name, "success");
    return message.reply_empty();
}

Result<> FakeSystemd::method_subscribe(BusMessage message) {
    note({.member = "Subscribe"});
    if (silent_) {
        unanswered_.push_back(std::move(message));
        return {};
    }
    if (!subscribers_.insert(message.sender()).second)
        return fail_named(
            "org.freedesktop.systemd1.AlreadySubscribed", EINVAL, "Client is already subscribed."
        );
    return message.reply_empty();
}

Result<> FakeSystemd::method_get_unit(BusMessage message) {
    const char* name = nullptr;
    THAW_CHECK(message.read("s", &name));
    note({.member = "GetUnit", .unit = name});
    const auto* known = unit(name);
    if ((known == nullptr || unloaded_.contains(name)) && !stubs_.contains(name))
        return fail_named(kNoSuchUnit, ENOENT, "Unit {} not loaded.", name);
    return message.reply("o", unit_path(name).c_str());
}

Result<> FakeSystemd::method_load_unit(BusMessage message) {
    const char* name = nullptr;
    THAW_CHECK(message.read("s", &name));
    note({.member = "LoadUnit", .unit = name});
    find_or_load(name);
    return message.reply("o", unit_path(name).c_str());
}

Result<> FakeSystemd::method_get_unit_by_pid(BusMessage message) {
    std::uint32_t pid = 0;
    THAW_CHECK(message.read("u", &pid));
    note({.member = "GetUnitByPID", .pids = {pid}});
    auto found = pid_units_.find(pid);
    if (found == pid_units_.end())
        return fail_named(
            "org.freedesktop.systemd1.NoUnitForPID", ESRCH, "PID {} does not belong to any unit.",
            pid
        );
    return message.reply("o", unit_path(found->second).c_str());
}

// Answers as if no states were asked for.
Result<> FakeSystemd::method_list(BusMessage message) {
    THAW_CHECK(message.skip("as"));
    std::vector<std::string> patterns;
    THAW_CHECK(message.enter_container('a', "s"));
    const char* pattern = nullptr;
    while (sd_bus_message_read(message.get(), "s", &pattern) > 0)
        patterns.emplace_back(pattern);
    note({.member = "ListUnitsByPatterns"});
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(ssssssouso)"));
    for (const auto& [name, known] : units_) {
        const auto matches = [&name = name](const std::string& text) {
            return fnmatch(text.c_str(), name.c_str(), 0) == 0;
        };
        if (std::none_of(patterns.begin(), patterns.end(), matches)) continue;
        THAW_CHECK(reply.append(
            "(ssssssouso)", name.c_str(), "", known.load_state.c_str(), known.active_state.c_str(),
            known.sub_state.c_str(), "", unit_path(name).c_str(), 0U, "", "/"
        ));
    }
    THAW_CHECK(reply.close_container());
    return reply.send();
}

Result<> FakeSystemd::method_attach(BusMessage message) {
    const char *name = nullptr, *subgroup = nullptr;
    THAW_CHECK(message.read("ss", &name, &subgroup));
    FakeCall call{.member = "AttachProcessesToUnit", .unit = name};
    THAW_CHECK(message.enter_container('a', "u"));
    std::uint32_t pid = 0;
    while (sd_bus_message_read(message.get(), "u", &pid) > 0)
        call.pids.push_back(pid);
    note(call);
    if (unit(call.unit) == nullptr)
        return fail_named(kNoSuchUnit, ENOENT, "Unit {} not loaded.", call.unit);
    return message.reply_empty();
}

} // namespace thaw::fakes

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
