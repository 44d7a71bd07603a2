// SPDX-License-Identifier: MIT
#include "fake_guard.hpp"

#include "api/diskguard1.hpp"
#include "bus/vtable.hpp"
#include "core/fd.hpp"
#include "fakes/must.hpp"

#include <fcntl.h>

#include <utility>

namespace thaw::fakes {

namespace {

constexpr const char* kVolumePath = "/org/thaw/diskguard1/volume/everything";
constexpr const char* kId = "everything";
constexpr const char* kMountPoint = "/";

} // namespace

struct FakeGuard::Vtables {
    static const sd_bus_vtable manager[];
    static const sd_bus_vtable volume[];
};

const sd_bus_vtable FakeGuard::Vtables::manager[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD(
        "GetVolume", "s", "o", (bus_method<FakeGuard, &FakeGuard::method_get>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "Reserve", "stsst", "h", (bus_method<FakeGuard, &FakeGuard::method_reserve>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "ReportWriters", "ssut", "", (bus_method<FakeGuard, &FakeGuard::method_report>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_VTABLE_END,
};

const sd_bus_vtable FakeGuard::Vtables::volume[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY(
        "Id", "s", (bus_property<FakeGuard, &FakeGuard::append_word<&kId>>), 0,
        SD_BUS_VTABLE_PROPERTY_CONST
    ),
    SD_BUS_PROPERTY(
        "MountPoint", "s", (bus_property<FakeGuard, &FakeGuard::append_word<&kMountPoint>>), 0,
        SD_BUS_VTABLE_PROPERTY_CONST
    ),
    SD_BUS_PROPERTY(
        "Level", "s", (bus_property<FakeGuard, &FakeGuard::append_level>), 0,
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_PROPERTY(
        "Writers", "s", (bus_property<FakeGuard, &FakeGuard::append_writers>), 0,
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
    ),
    SD_BUS_VTABLE_END,
};

FakeGuard::FakeGuard(Bus bus, std::function<void(const std::string&)> note)
    : bus_(std::move(bus)), note_(std::move(note)) {
    slots_.push_back(must(bus_.add_object_manager(diskguard1::kPath)));
    slots_.push_back(must(
        bus_.add_object(diskguard1::kPath, diskguard1::kManagerInterface, Vtables::manager, this)
    ));
    slots_.push_back(
        must(bus_.add_object(kVolumePath, diskguard1::kVolumeInterface, Vtables::volume, this))
    );
    slots_.push_back(bus_.request_name(diskguard1::kBusName, [this](const Result<>& done) {
        owns_name_ = done.has_value();
    }));
}

void FakeGuard::set_volume(const std::string& level, const std::string& writers) {
    level_ = level;
    writers_ = writers;
    (void
    )bus_.emit_properties_changed(kVolumePath, diskguard1::kVolumeInterface, {"Level", "Writers"});
}

Result<> FakeGuard::method_get(BusMessage message) {
    if (!error_.empty()) return fail_named(error_, EIO, "as the test says");
    return message.reply("o", kVolumePath);
}

Result<> FakeGuard::method_reserve(BusMessage message) {
    note_("Reserve");
    if (!holding_) return promise(message);
    held_.push_back(std::move(message));
    return {};
}

void FakeGuard::release() {
    holding_ = false;
    for (auto& message : std::exchange(held_, {}))
        (void)promise(message);
}

Result<> FakeGuard::promise(BusMessage& message) {
    const Fd lease(open("/dev/null", O_RDONLY | O_CLOEXEC));
    return message.reply("h", lease.get());
}

Result<> FakeGuard::method_report(BusMessage message) {
    const char *volume = nullptr, *what = nullptr;
    std::uint32_t count = 0;
    THAW_CHECK(message.read("ssu", &volume, &what, &count));
    note_(fmt::format("ReportWriters {} {}", what, count));
    return message.reply_empty();
}

} // namespace thaw::fakes
