// SPDX-License-Identifier: MIT
#include "api/restore1.hpp"
#include "bus/vtable.hpp"
#include "job.hpp"
#include "manager.hpp"

#include <functional>

namespace thaw::restore {

template <auto Text>
Result<> Job::append_text(BusMessage& reply) const {
    const std::string text = std::invoke(Text, this);
    return reply.append("s", text.c_str());
}

Result<> Job::append_uid(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(record_.uid));
}

Result<> Job::method_cancel(BusMessage message) {
    context_.manager.request_cancel(std::move(message), record_.id);
    return {};
}

void Job::changed(std::vector<std::string> properties) {
    // Nobody may be listening yet, or the bus may be going; both are fine.
    (void
    )context_.bus.emit_properties_changed(path_, restore1::kJobInterface, std::move(properties));
}

const sd_bus_vtable* Job::vtable() {
    constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
    constexpr auto kEmits = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
    static const sd_bus_vtable table[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS(
            "Cancel", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, (bus_method<Job, &Job::method_cancel>),
            SD_BUS_VTABLE_UNPRIVILEGED
        ),
        SD_BUS_PROPERTY("Id", "u", (bus_property<Job, &Job::append_id>), 0, kConst),
        SD_BUS_PROPERTY(
            "Instance", "s", (bus_property<Job, &Job::append_text<&Job::instance_>>), 0, kConst
        ),
        SD_BUS_PROPERTY(
            "Image", "s", (bus_property<Job, &Job::append_text<&Job::image_>>), 0, kConst
        ),
        SD_BUS_PROPERTY(
            "Kind", "s", (bus_property<Job, &Job::append_text<&Job::kind_word>>), 0, kConst
        ),
        SD_BUS_PROPERTY("StartedByUID", "u", (bus_property<Job, &Job::append_uid>), 0, kConst),
        SD_BUS_PROPERTY(
            "StartTimestamp", "t", (bus_property<Job, &Job::append_started>), 0, kConst
        ),
        SD_BUS_PROPERTY(
            "State", "s", (bus_property<Job, &Job::append_text<&Job::state_word>>), 0, kEmits
        ),
        SD_BUS_PROPERTY(
            "Stage", "s", (bus_property<Job, &Job::append_text<&Job::stage_>>), 0, kEmits
        ),
        SD_BUS_PROPERTY(
            "Backend", "s", (bus_property<Job, &Job::append_text<&Job::backend_>>), 0, kEmits
        ),
        SD_BUS_PROPERTY(
            "BackendReason", "s", (bus_property<Job, &Job::append_text<&Job::backend_reason_>>), 0,
            kEmits
        ),
        SD_BUS_PROPERTY("Progress", "d", (bus_property<Job, &Job::append_progress>), 0, 0),
        SD_BUS_PROPERTY(
            "ErrorName", "s", (bus_property<Job, &Job::append_text<&Job::error_name_>>), 0, kEmits
        ),
        SD_BUS_PROPERTY(
            "ErrorMessage", "s", (bus_property<Job, &Job::append_text<&Job::error_message_>>), 0,
            kEmits
        ),
        SD_BUS_PROPERTY(
            "Result", "s", (bus_property<Job, &Job::append_text<&Job::result_word>>), 0, kEmits
        ),
        SD_BUS_PROPERTY(
            "Outcome", "s", (bus_property<Job, &Job::append_text<&Job::outcome_>>), 0, kEmits
        ),
        SD_BUS_VTABLE_END,
    };
    return table;
}

} // namespace thaw::restore
