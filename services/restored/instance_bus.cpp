// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "bus/vtable.hpp"
#include "instance.hpp"
#include "manager.hpp"

#include <functional>

namespace thaw::restore {

template <auto Text>
Result<> Instance::append_text(BusMessage& reply) const {
    const std::string text = std::invoke(Text, this);
    return reply.append("s", text.c_str());
}

Result<> Instance::append_owner(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(record_.owner));
}

Result<> Instance::append_job_id(BusMessage& reply) const {
    return reply.append("u", record_.job ? record_.job->id : record_.restored_by);
}

// "/" when the memory is not the pager's.
Result<> Instance::append_session(BusMessage& reply) const {
    return reply.append("o", record_.session.empty() ? "/" : record_.session.c_str());
}

Result<> Instance::append_started(BusMessage& reply) const {
    return reply.append("t", record_.started);
}

Result<> Instance::method_stop(BusMessage message) {
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("t", &flags));
    return context_.manager.request_stop(std::move(message), name(), flags);
}

Result<> Instance::method_pause(BusMessage message) {
    context_.manager.request_vm_state(std::move(message), name(), VmState::Paused);
    return {};
}

Result<> Instance::method_resume(BusMessage message) {
    context_.manager.request_vm_state(std::move(message), name(), VmState::Resumed);
    return {};
}

void Instance::changed(std::vector<std::string> properties) {
    // Nobody may be listening yet, or the bus may be going; both are fine.
    (void)context_.bus.emit_properties_changed(
        path_, restore1::kInstanceInterface, std::move(properties)
    );
}

const sd_bus_vtable* Instance::vtable() {
    using I = Instance;
    constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
    constexpr auto kEmits = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
    static const sd_bus_vtable table[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS(
            "Stop", SD_BUS_ARGS("t", flags), SD_BUS_RESULT("u", id, "o", job),
            (bus_method<I, &I::method_stop>), SD_BUS_VTABLE_UNPRIVILEGED
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "Pause", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, (bus_method<I, &I::method_pause>),
            SD_BUS_VTABLE_UNPRIVILEGED
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "Resume", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, (bus_method<I, &I::method_resume>),
            SD_BUS_VTABLE_UNPRIVILEGED
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "GetRootfs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", status),
            (bus_method<I, &I::method_get_rootfs>), SD_BUS_VTABLE_UNPRIVILEGED
        ),
        SD_BUS_PROPERTY("Name", "s", (bus_property<I, &I::append_text<&I::name>>), 0, kConst),
        SD_BUS_PROPERTY(
            "Image", "s", (bus_property<I, &I::append_text<&I::image_word>>), 0, kConst
        ),
        SD_BUS_PROPERTY("Unit", "s", (bus_property<I, &I::append_text<&I::unit>>), 0, kConst),
        SD_BUS_PROPERTY("Type", "s", (bus_property<I, &I::append_text<&I::type_word>>), 0, kConst),
        SD_BUS_PROPERTY("Owner", "u", (bus_property<I, &I::append_owner>), 0, kConst),
        SD_BUS_PROPERTY(
            "State", "s", (bus_property<I, &I::append_text<&I::state_word>>), 0, kEmits
        ),
        SD_BUS_PROPERTY(
            "MemoryBackend", "s", (bus_property<I, &I::append_text<&I::backend_word>>), 0, 0
        ),
        SD_BUS_PROPERTY("JobId", "u", (bus_property<I, &I::append_job_id>), 0, 0),
        SD_BUS_PROPERTY("Session", "o", (bus_property<I, &I::append_session>), 0, 0),
        SD_BUS_PROPERTY("StartTimestamp", "t", (bus_property<I, &I::append_started>), 0, 0),
        SD_BUS_VTABLE_END,
    };
    return table;
}

} // namespace thaw::restore
