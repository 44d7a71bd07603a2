// SPDX-License-Identifier: MIT
#include "api/diskguard1.hpp"
#include "build_config.hpp"
#include "bus/flags.hpp"
#include "bus/vtable.hpp"
#include "log/log.hpp"
#include "manager.hpp"

#include <utility>

namespace thaw::diskguard {

namespace {

Result<> check_text(const char* name, std::string_view text) {
    if (text.empty() || text.size() > kMostLeaseText)
        return fail_named(
            kErrorInvalidArgs, EINVAL, "{}: expected 1 to {} bytes", name, kMostLeaseText
        );
    return {};
}

} // namespace

Result<> Manager::export_objects() {
    auto& bus = context_.bus;
    const auto keep = [this](Result<BusSlot> slot) -> Result<> {
        if (!slot) return std::unexpected(std::move(slot).error());
        exported_.push_back(std::move(*slot));
        return {};
    };
    THAW_CHECK(keep(bus.add_object_manager(diskguard1::kPath)));
    THAW_CHECK(keep(bus.add_object(diskguard1::kPath, diskguard1::kManagerInterface, vtable(), this)
    ));
    const auto find = [this](const std::string& path) -> void* {
        for (const auto& [id, volume] : volumes_)
            if (volume->path() == path) return volume.get();
        // An object that was just removed is still asked for by its last signal.
        for (const auto& volume : gone_)
            if (volume->path() == path) return volume.get();
        return nullptr;
    };
    THAW_CHECK(keep(bus.add_objects(
        diskguard1::kVolumePrefix, diskguard1::kVolumeInterface, Volume::vtable(), find
    )));
    return keep(bus.add_enumerator(diskguard1::kVolumePrefix, [this] {
        std::vector<std::string> paths;
        paths.reserve(volumes_.size());
        for (const auto& [id, volume] : volumes_)
            paths.push_back(volume->path());
        return paths;
    }));
}

void Manager::changed(std::vector<std::string> properties) {
    // Nobody may be listening, or the bus may be going; both are fine.
    (void)context_.bus.emit_properties_changed(
        diskguard1::kPath, diskguard1::kManagerInterface, std::move(properties)
    );
}

// ---- methods --------------------------------------------------------------------------------

Result<> Manager::method_list_volumes(BusMessage message) {
    const auto answer = [this](BusMessage call) -> Result<> {
        THAW_TRY(auto reply, call.new_reply());
        THAW_CHECK(reply.open_container('a', "(ssssttto)"));
        for (const auto& [id, volume] : volumes_) {
            const auto& state = volume->state();
            const auto& measured = state.measured();
            THAW_CHECK(reply.append(
                "(ssssttto)", id.c_str(), volume->found().mount_point.c_str(),
                std::string(reserve::kStateNames.name(state.state())).c_str(),
                std::string(diskguard1::kLevelNames.name(state.level())).c_str(),
                state.known() ? state.space().total : std::uint64_t{0},
                state.known() ? state.space().available : std::uint64_t{0},
                measured ? measured->releasable : std::uint64_t{0}, volume->path().c_str()
            ));
        }
        THAW_CHECK(reply.close_container());
        return reply.send();
    };
    if (searched_) return answer(std::move(message));
    waiting_.push_back([answer, message] {
        if (auto done = answer(message); !done) message.reply_error(done.error());
    });
    return {};
}

Result<> Manager::method_get_volume(BusMessage message) {
    const char* text = nullptr;
    THAW_CHECK(message.read("s", &text));
    with_volume(message, text, [message](Volume& volume) mutable {
        (void)message.reply("o", volume.path().c_str()); // a caller that is gone learns nothing
    });
    return {};
}

Result<> Manager::method_reserve(BusMessage message) {
    const char *text = nullptr, *who = nullptr, *why = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("stsst", &text, &bytes, &who, &why, &flags));
    THAW_CHECK(check_flags(flags));
    THAW_CHECK(check_text("who", who));
    THAW_CHECK(check_text("why", why));
    THAW_TRY(const auto uid, message.sender_uid());
    LeaseRecord wanted{.bytes = bytes, .who = who, .why = why, .uid = uid};
    with_volume(message, text, [this, message, wanted = std::move(wanted)](Volume& volume) {
        authorize(
            message, diskguard1::kActionReserve, volume,
            [this, message, wanted](Volume& target) mutable {
                wanted.volume = target.id();
                reserve_space(message, target, std::move(wanted));
            }
        );
    });
    return {};
}

Result<> Manager::method_can_fit(BusMessage message) {
    const char* text = nullptr;
    std::uint64_t bytes = 0;
    THAW_CHECK(message.read("st", &text, &bytes));
    with_volume(message, text, [this, message, bytes](Volume& volume) {
        with_space(
            message, volume,
            [message, bytes](Volume& measured, const reserve::Space& space) mutable {
                const auto room = available(space.available, measured.promised());
                (void)message.reply("bt", bytes <= room ? 1 : 0, room); // as above
            }
        );
    });
    return {};
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): the signature of a bus method
Result<> Manager::method_list_leases(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(sstssut)"));
    for (const auto& lease : leases_.list())
        THAW_CHECK(reply.append(
            "(sstssut)", lease.id.c_str(), lease.volume.c_str(), lease.bytes, lease.who.c_str(),
            lease.why.c_str(), static_cast<std::uint32_t>(lease.uid), lease.since
        ));
    THAW_CHECK(reply.close_container());
    return reply.send();
}

Result<> Manager::method_release_named(BusMessage message) {
    const char* text = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("stt", &text, &bytes, &flags));
    THAW_CHECK(check_flags(flags));
    with_volume(message, text, [this, message, bytes](Volume& volume) {
        release(message, volume, bytes);
    });
    return {};
}

Result<> Manager::method_report_writers(BusMessage message) {
    const char *text = nullptr, *word = nullptr;
    std::uint32_t count = 0;
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("ssut", &text, &word, &count, &flags));
    THAW_CHECK(check_flags(flags));
    const bool stopped = std::string_view(word) == "paused";
    if (!stopped && std::string_view(word) != "resumed")
        return fail_named(kErrorInvalidArgs, EINVAL, "state: expected paused or resumed");
    // An automatic release follows from it.
    THAW_TRY(const auto uid, message.sender_uid());
    if (uid != 0) return fail_named(kErrorAccessDenied, EACCES, "only for uid 0");
    with_volume(message, text, [message, stopped, count](Volume& volume) mutable {
        volume.writers_reported(stopped, count);
        (void)message.reply_empty(); // as above
    });
    return {};
}

// ---- properties -----------------------------------------------------------------------------

Result<> Manager::append_version(BusMessage& reply) const {
    return reply.append("s", THAW_VERSION);
}
Result<> Manager::append_volumes(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(volumes_.size()));
}
Result<> Manager::append_leases(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(leases_.size()));
}
Result<> Manager::append_level(BusMessage& reply) const {
    return reply.append("s", std::string(diskguard1::kLevelNames.name(level())).c_str());
}
Result<> Manager::append_release_policy(BusMessage& reply) const {
    return reply.append("s", std::string(kReleasePolicyNames.name(loaded_.config.release)).c_str());
}
Result<> Manager::append_writers_policy(BusMessage& reply) const {
    return reply.append(
        "s", std::string(diskguard1::kWritersNames.name(loaded_.config.writers)).c_str()
    );
}
Result<> Manager::append_pressure(BusMessage& reply) const {
    return reply.append("b", pressure_ != nullptr ? 1 : 0);
}

const sd_bus_vtable* Manager::vtable() {
    using M = Manager;
    constexpr auto kFree = SD_BUS_VTABLE_UNPRIVILEGED;
    constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
    constexpr auto kEmits = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
    static const sd_bus_vtable table[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", (bus_property<M, &M::append_version>), 0, kConst),
        SD_BUS_PROPERTY("NVolumes", "u", (bus_property<M, &M::append_volumes>), 0, kEmits),
        SD_BUS_PROPERTY("NLeases", "u", (bus_property<M, &M::append_leases>), 0, kEmits),
        SD_BUS_PROPERTY("Level", "s", (bus_property<M, &M::append_level>), 0, kEmits),
        SD_BUS_PROPERTY(
            "ReleasePolicy", "s", (bus_property<M, &M::append_release_policy>), 0, kConst
        ),
        SD_BUS_PROPERTY(
            "WritersPolicy", "s", (bus_property<M, &M::append_writers_policy>), 0, kConst
        ),
        SD_BUS_PROPERTY("Pressure", "b", (bus_property<M, &M::append_pressure>), 0, kConst),
        SD_BUS_METHOD_WITH_ARGS(
            "ListVolumes", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssssttto)", volumes),
            (bus_method<M, &M::method_list_volumes>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "GetVolume", SD_BUS_ARGS("s", volume), SD_BUS_RESULT("o", object),
            (bus_method<M, &M::method_get_volume>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "Reserve", SD_BUS_ARGS("s", volume, "t", bytes, "s", who, "s", why, "t", flags),
            SD_BUS_RESULT("h", lease), (bus_method<M, &M::method_reserve>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "CanFit", SD_BUS_ARGS("s", volume, "t", bytes),
            SD_BUS_RESULT("b", fits, "t", available), (bus_method<M, &M::method_can_fit>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "ListLeases", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sstssut)", leases),
            (bus_method<M, &M::method_list_leases>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "Release", SD_BUS_ARGS("s", volume, "t", bytes, "t", flags), SD_BUS_RESULT("t", gained),
            (bus_method<M, &M::method_release_named>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "ReportWriters", SD_BUS_ARGS("s", volume, "s", state, "u", count, "t", flags),
            SD_BUS_NO_RESULT, (bus_method<M, &M::method_report_writers>), kFree
        ),
        SD_BUS_SIGNAL_WITH_ARGS("VolumeNew", SD_BUS_ARGS("s", volume, "o", object), 0),
        SD_BUS_SIGNAL_WITH_ARGS(
            "VolumeRemoved", SD_BUS_ARGS("s", volume, "o", object, "s", result), 0
        ),
        SD_BUS_SIGNAL_WITH_ARGS(
            "LevelChanged",
            SD_BUS_ARGS("s", volume, "s", before, "s", level, "t", free_bytes, "t", free_inodes), 0
        ),
        SD_BUS_SIGNAL_WITH_ARGS(
            "ActionTaken", SD_BUS_ARGS("s", volume, "s", action, "s", reason), 0
        ),
        SD_BUS_SIGNAL_WITH_ARGS("LeasesChanged", SD_BUS_ARGS("s", volume, "t", promised), 0),
        SD_BUS_VTABLE_END,
    };
    return table;
}

} // namespace thaw::diskguard
