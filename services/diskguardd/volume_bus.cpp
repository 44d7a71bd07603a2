// SPDX-License-Identifier: MIT
#include "bus/vtable.hpp"
#include "volume.hpp"

namespace thaw::diskguard {

namespace {

std::string word(std::string_view text) {
    return std::string(text);
}

const reserve::Measurement& measured_or_nothing(const Volume& volume) {
    static const reserve::Measurement nothing;
    const auto& measured = volume.state().measured();
    return measured ? *measured : nothing;
}

reserve::Space space_or_nothing(const Volume& volume) {
    return volume.state().known() ? volume.state().space() : reserve::Space{};
}

} // namespace

Result<> Volume::method_release(BusMessage message) {
    return guard_.owner.method_release(*this, std::move(message));
}

template <auto Text>
Result<> Volume::append_text(BusMessage& reply) const {
    return reply.append("s", std::string(Text(*this)).c_str());
}

template <auto Number>
Result<> Volume::append_number(BusMessage& reply) const {
    return reply.append("t", std::uint64_t{Number(*this)});
}

Result<> Volume::append_read_only(BusMessage& reply) const {
    return reply.append("b", found_.read_only ? 1 : 0);
}
Result<> Volume::append_rate(BusMessage& reply) const {
    return reply.append("x", state_.rate());
}
Result<> Volume::append_chunks(BusMessage& reply) const {
    const auto& plan = state_.plan();
    return reply.append("u", plan ? plan->chunks() : 0U);
}
Result<> Volume::append_missing_chunks(BusMessage& reply) const {
    return reply.append("u", measured_or_nothing(*this).missing_chunks);
}

#define THAW_TEXT(name, flags, expression)                                                         \
    SD_BUS_PROPERTY(                                                                               \
        name, "s", (bus_property<Volume, &Volume::append_text<[](const Volume& v) -> std::string { \
                                     return word(expression);                                      \
                                 }>>),                                                             \
        0, flags                                                                                   \
    )
#define THAW_NUMBER(name, expression)                                                              \
    SD_BUS_PROPERTY(                                                                               \
        name, "t",                                                                                 \
        (bus_property<Volume, &Volume::append_number<[](const Volume& v) -> std::uint64_t {        \
                          return expression;                                                       \
                      }>>),                                                                        \
        0, 0                                                                                       \
    )

const sd_bus_vtable* Volume::vtable() {
    constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
    constexpr auto kEmits = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
    static const sd_bus_vtable table[] = {
        SD_BUS_VTABLE_START(0),
        THAW_TEXT("Id", kConst, v.id()),
        THAW_TEXT("MountPoint", kEmits, v.found_.mount_point),
        THAW_TEXT("FileSystem", kConst, v.found_.type),
        THAW_TEXT("Source", kConst, v.found_.source),
        THAW_TEXT("Backing", kConst, v.found_.backing == reserve::Backing::Thin ? "thin" : "solid"),
        SD_BUS_PROPERTY("ReadOnly", "b", (bus_property<Volume, &Volume::append_read_only>), 0, 0),
        THAW_TEXT("State", kEmits, reserve::kStateNames.name(v.shown_state_)),
        THAW_TEXT("StateReason", kEmits, v.shown_reason_),
        THAW_TEXT(
            "Level", kEmits, diskguard1::kLevelNames.name(std::max(v.shown_bytes_, v.shown_inodes_))
        ),
        THAW_TEXT("BytesLevel", kEmits, diskguard1::kLevelNames.name(v.shown_bytes_)),
        THAW_TEXT("InodesLevel", kEmits, diskguard1::kLevelNames.name(v.shown_inodes_)),
        THAW_TEXT("Writers", kEmits, diskguard1::kWritersNames.name(v.writers_)),
        THAW_NUMBER("TotalBytes", space_or_nothing(v).total),
        THAW_NUMBER("FreeBytes", space_or_nothing(v).available),
        THAW_NUMBER("FreeBytesRoot", space_or_nothing(v).free),
        THAW_NUMBER("TotalInodes", space_or_nothing(v).inodes_total),
        THAW_NUMBER("FreeInodes", space_or_nothing(v).inodes_available),
        THAW_NUMBER("PromisedBytes", v.promised()),
        THAW_NUMBER("PlannedBytes", measured_or_nothing(v).planned),
        THAW_NUMBER("HeldBytes", measured_or_nothing(v).allocated),
        THAW_NUMBER("ReleasableBytes", measured_or_nothing(v).releasable),
        SD_BUS_PROPERTY("Chunks", "u", (bus_property<Volume, &Volume::append_chunks>), 0, 0),
        SD_BUS_PROPERTY(
            "MissingChunks", "u", (bus_property<Volume, &Volume::append_missing_chunks>), 0, 0
        ),
        THAW_TEXT("Rearm", 0, reserve::kRearmActionNames.name(v.state_.rearm().action)),
        THAW_NUMBER("RearmFreeBytes", v.state_.rearm().free),
        THAW_NUMBER("RearmNeededBytes", v.state_.rearm().needed),
        THAW_NUMBER("RearmThresholdBytes", v.state_.rearm().threshold),
        SD_BUS_PROPERTY("GrowthRate", "x", (bus_property<Volume, &Volume::append_rate>), 0, 0),
        THAW_NUMBER("TimeToFullUSec", v.state_.time_to_full()),
        THAW_NUMBER("LookTimestamp", v.looked_at_),
        SD_BUS_METHOD_WITH_ARGS(
            "Release", SD_BUS_ARGS("t", bytes, "t", flags), SD_BUS_RESULT("t", gained),
            (bus_method<Volume, &Volume::method_release>), SD_BUS_VTABLE_UNPRIVILEGED
        ),
        SD_BUS_VTABLE_END,
    };
    return table;
}

} // namespace thaw::diskguard
