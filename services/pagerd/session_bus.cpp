// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "bus/vtable.hpp"
#include "session.hpp"

namespace thaw::pagerd {

namespace {
using Counters = protocol::SessionCounters;
constexpr std::uint64_t kNsecPerUsec = 1000;
} // namespace

// Written by the worker, shown as it is: numbers for people.
template <auto Counter>
Result<> Session::append_counter(BusMessage& reply) const {
    return reply.append("t", (memory_.counters().*Counter).load(std::memory_order_relaxed));
}

Result<> Session::append_text(BusMessage& reply, std::string_view text) const {
    return reply.append("s", std::string(text).c_str());
}

Result<> Session::property_name(BusMessage& reply) const {
    return append_text(reply, name());
}
Result<> Session::property_id(BusMessage& reply) const {
    return append_text(reply, id_);
}
Result<> Session::property_unit(BusMessage& reply) const {
    return append_text(reply, unit());
}
Result<> Session::property_image(BusMessage& reply) const {
    return append_text(reply, memory_.info().image_name);
}
Result<> Session::property_memory_size(BusMessage& reply) const {
    return reply.append("t", memory_.info().memory_size);
}
Result<> Session::property_page_size(BusMessage& reply) const {
    return reply.append("t", memory_.info().page_size);
}
Result<> Session::property_state(BusMessage& reply) const {
    return append_text(reply, kSessionStateNames.name(state_));
}
Result<> Session::property_error_name(BusMessage& reply) const {
    return append_text(reply, error_ ? error_->bus_name() : std::string_view());
}
Result<> Session::property_error_message(BusMessage& reply) const {
    return append_text(reply, error_ ? std::string_view(error_->message()) : std::string_view());
}
Result<> Session::property_stop_pending(BusMessage& reply) const {
    return reply.append("b", static_cast<int>(stop_pending_));
}
Result<> Session::property_recording(BusMessage& reply) const {
    return reply.append(
        "b", static_cast<int>((memory_.info().flags & protocol::kFlagRecording) != 0)
    );
}
// Nothing quiesces a session whose VMM runs; the handover of a live VM will.
Result<> Session::property_quiesced(BusMessage& reply) const {
    return reply.append("b", 0);
}
Result<> Session::property_adopting(BusMessage& reply) const {
    return reply.append("b", static_cast<int>(adopting_));
}
Result<> Session::property_worker_pid(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(worker_ ? worker_->pid() : 0));
}
Result<> Session::property_worker_restarts(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(worker_ ? worker_->restarts() : 0));
}
Result<> Session::property_vmm_pid(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(vmm_pid_));
}
Result<> Session::property_pages_installed(BusMessage& reply) const {
    const auto& counters = memory_.counters();
    return reply.append(
        "t", counters.pages_copied.load(std::memory_order_relaxed) +
                 counters.pages_zero.load(std::memory_order_relaxed) +
                 counters.pages_rezero.load(std::memory_order_relaxed)
    );
}
Result<> Session::property_zero_pages(BusMessage& reply) const {
    const auto& counters = memory_.counters();
    return reply.append(
        "t", counters.pages_zero.load(std::memory_order_relaxed) +
                 counters.pages_rezero.load(std::memory_order_relaxed)
    );
}
Result<> Session::property_oldest_fault(BusMessage& reply) const {
    const auto since =
        memory_.state().oldest_fault_ns.load(std::memory_order_relaxed) / kNsecPerUsec;
    const auto now = now_monotonic();
    return reply.append("t", since == 0 || since > now ? std::uint64_t{0} : now - since);
}

Result<> Session::method_close(BusMessage message) {
    return close_requested_(name(), std::move(message));
}

#define THAW_CONST(name, type, getter)                                                             \
    SD_BUS_PROPERTY(                                                                               \
        name, type, (bus_property<Session, &Session::getter>), 0, SD_BUS_VTABLE_PROPERTY_CONST     \
    )
#define THAW_EMITS(name, type, getter)                                                             \
    SD_BUS_PROPERTY(                                                                               \
        name, type, (bus_property<Session, &Session::getter>), 0,                                  \
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE                                                        \
    )
#define THAW_SILENT(name, type, getter)                                                            \
    SD_BUS_PROPERTY(name, type, (bus_property<Session, &Session::getter>), 0, 0)
#define THAW_COUNTER(name, counter)                                                                \
    SD_BUS_PROPERTY(                                                                               \
        name, "t", (bus_property<Session, &Session::append_counter<&Counters::counter>>), 0, 0     \
    )

const sd_bus_vtable Session::kVtable[] = {
    SD_BUS_VTABLE_START(0),
    THAW_CONST("Name", "s", property_name),
    THAW_CONST("Id", "s", property_id),
    THAW_CONST("Unit", "s", property_unit),
    THAW_CONST("Image", "s", property_image),
    THAW_CONST("MemorySize", "t", property_memory_size),
    THAW_CONST("PageSize", "t", property_page_size),
    THAW_EMITS("State", "s", property_state),
    THAW_EMITS("ErrorName", "s", property_error_name),
    THAW_EMITS("ErrorMessage", "s", property_error_message),
    THAW_EMITS("StopPending", "b", property_stop_pending),
    THAW_EMITS("Recording", "b", property_recording),
    THAW_EMITS("Quiesced", "b", property_quiesced),
    THAW_EMITS("Adopting", "b", property_adopting),
    THAW_SILENT("WorkerPID", "u", property_worker_pid),
    THAW_SILENT("WorkerRestarts", "u", property_worker_restarts),
    THAW_SILENT("VmmPID", "u", property_vmm_pid),
    THAW_COUNTER("Faults", faults),
    THAW_SILENT("PagesInstalled", "t", property_pages_installed),
    THAW_SILENT("ZeroPages", "t", property_zero_pages),
    THAW_COUNTER("RemovedPages", pages_removed),
    THAW_COUNTER("Retries", retries),
    THAW_COUNTER("Parked", parked),
    THAW_SILENT("OldestFaultUSec", "t", property_oldest_fault),
    THAW_COUNTER("BytesRead", bytes_read),
    // Open to the method table, closed by method_close(): sd-bus's own check would ask the bus
    // driver and wait.
    SD_BUS_METHOD_WITH_ARGS(
        "Close", SD_BUS_ARGS("t", flags), SD_BUS_NO_RESULT,
        (bus_method<Session, &Session::method_close>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_VTABLE_END,
};

} // namespace thaw::pagerd
