// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "bus/vtable.hpp"
#include "session.hpp"

#include <bit>

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
Result<> Session::property_image_id(BusMessage& reply) const {
    const auto& id = memory_.info().image_id;
    return append_text(reply, hex_encode(id.data(), id.size()));
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
Result<> Session::property_quiesced(BusMessage& reply) const {
    return reply.append("b", static_cast<int>(memory_.state().quiesced.load() != 0));
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

Result<> Session::property_engine(BusMessage& reply) const {
    return append_text(
        reply, protocol::engine_name(static_cast<protocol::FaultEngineKind>(
                   memory_.state().engine.load(std::memory_order_relaxed)
               ))
    );
}
Result<> Session::property_prefetch(BusMessage& reply) const {
    return reply.append("b", static_cast<int>(memory_.prefetch().enabled));
}
Result<> Session::property_replay_state(BusMessage& reply) const {
    return append_text(
        reply,
        protocol::replay_state_name(memory_.state().replay_state.load(std::memory_order_relaxed))
    );
}
Result<> Session::property_replay_reason(BusMessage& reply) const {
    return append_text(
        reply,
        protocol::replay_reason_name(memory_.state().replay_reason.load(std::memory_order_relaxed))
    );
}
Result<> Session::property_replay_io(BusMessage& reply) const {
    return append_text(
        reply, protocol::replay_io_name(memory_.state().replay_io.load(std::memory_order_relaxed))
    );
}
Result<> Session::property_latency(BusMessage& reply) const {
    THAW_CHECK(reply.open_container('a', "t"));
    for (const auto& bucket : memory_.counters().latency)
        THAW_CHECK(reply.append("t", bucket.load(std::memory_order_relaxed)));
    return reply.close_container();
}
Result<> Session::property_latency_sum(BusMessage& reply) const {
    const auto sum = memory_.counters().latency_sum_ns.load(std::memory_order_relaxed);
    return reply.append("t", sum / kNsecPerUsec);
}
Result<> Session::property_unservable(BusMessage& reply) const {
    return reply.append("t", memory_.state().failure.pages.load(std::memory_order_relaxed));
}
Result<> Session::property_touches(BusMessage& reply) const {
    return reply.append("t", memory_.state().touches.load(std::memory_order_relaxed));
}
Result<> Session::property_populate_state(BusMessage& reply) const {
    return append_text(
        reply,
        protocol::populate_state_name(memory_.state().populate_state.load(std::memory_order_relaxed)
        )
    );
}
Result<> Session::property_tracking(BusMessage& reply) const {
    return append_text(
        reply, protocol::track_state_name(memory_.state().tracking.load(std::memory_order_relaxed))
    );
}
Result<> Session::property_dirty(BusMessage& reply) const {
    std::uint64_t pages = 0;
    for (const auto word : memory_.dirty_bitmap())
        pages += static_cast<std::uint64_t>(std::popcount(word));
    return reply.append("t", pages);
}
template <auto Field>
Result<> Session::append_policy(BusMessage& reply) const {
    return reply.append("t", memory_.prefetch().*Field);
}
template <auto Field>
Result<> Session::append_state(BusMessage& reply) const {
    return reply.append("t", (memory_.state().*Field).load(std::memory_order_relaxed));
}
// The moment as µs since the session was made; 0: it has not come.
template <auto Moment>
Result<> Session::append_since(BusMessage& reply) const {
    const auto when = (memory_.counters().*Moment).load(std::memory_order_relaxed);
    return reply.append("t", since_created(when));
}
Result<> Session::property_handshake(BusMessage& reply) const {
    return reply.append("t", since_created(memory_.handshake_ns()));
}
std::uint64_t Session::since_created(std::uint64_t when_ns) const {
    const auto created = memory_.info().created_ns;
    return when_ns <= created ? 0 : (when_ns - created) / kNsecPerUsec;
}

template <Session::Change Wanted>
Result<> Session::method_change(BusMessage message) {
    return change_requested_(name(), Wanted, std::move(message));
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

#define THAW_STATE(name, field)                                                                    \
    SD_BUS_PROPERTY(                                                                               \
        name, "t",                                                                                 \
        (bus_property<Session, &Session::append_state<&protocol::SessionState::field>>), 0, 0      \
    )
#define THAW_CONTROL(name, field)                                                                  \
    SD_BUS_PROPERTY(                                                                               \
        name, "t",                                                                                 \
        (bus_property<Session, &Session::append_policy<&protocol::PrefetchPolicy::field>>), 0,     \
        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE                                                        \
    )
#define THAW_MOMENT(name, counter)                                                                 \
    SD_BUS_PROPERTY(                                                                               \
        name, "t", (bus_property<Session, &Session::append_since<&Counters::counter>>), 0, 0       \
    )
#define THAW_CHANGE(name)                                                                          \
    SD_BUS_METHOD_WITH_ARGS(                                                                       \
        #name, SD_BUS_ARGS("t", flags), SD_BUS_NO_RESULT,                                          \
        (bus_method<Session, &Session::method_change<Session::Change::name>>),                     \
        SD_BUS_VTABLE_UNPRIVILEGED                                                                 \
    )

const sd_bus_vtable Session::kVtable[] = {
    SD_BUS_VTABLE_START(0),
    THAW_CONST("Name", "s", property_name),
    THAW_CONST("Id", "s", property_id),
    THAW_CONST("Unit", "s", property_unit),
    THAW_CONST("Image", "s", property_image),
    THAW_CONST("ImageId", "s", property_image_id),
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
    THAW_COUNTER("BytesDemand", bytes_demand),
    THAW_COUNTER("BytesReplay", bytes_replay),
    THAW_COUNTER("BytesPopulate", bytes_populate),
    THAW_COUNTER("BytesZero", bytes_zero),
    THAW_COUNTER("BytesRemoved", bytes_removed),
    THAW_COUNTER("CheckedPages", pages_checked),
    THAW_COUNTER("ReplayPages", replay_pages),
    THAW_COUNTER("ReplayUsedPages", replay_used),
    THAW_COUNTER("ReplayLatePages", replay_late),
    THAW_COUNTER("ReplayWastedPages", replay_wasted),
    THAW_COUNTER("Removes", removes),
    THAW_COUNTER("Again", again),
    THAW_COUNTER("PresentAlready", exists),
    THAW_COUNTER("Gone", gone),
    THAW_COUNTER("Partial", partial),
    THAW_COUNTER("SourceErrors", source_errors),
    THAW_COUNTER("Wakes", wakes),
    THAW_SILENT("UnservablePages", "t", property_unservable),
    THAW_SILENT("FaultLatency", "at", property_latency),
    THAW_SILENT("FaultLatencySumUSec", "t", property_latency_sum),
    THAW_SILENT("HandshakeUSec", "t", property_handshake),
    THAW_MOMENT("FirstFaultUSec", first_fault_ns),
    THAW_MOMENT("WorkingSetUSec", replay_done_ns),
    THAW_MOMENT("LastPageUSec", last_page_ns),
    THAW_SILENT("Engine", "s", property_engine),
    THAW_EMITS("Prefetch", "b", property_prefetch),
    THAW_CONTROL("PrefetchRate", rate),
    THAW_CONTROL("ReplayBudget", replay_budget),
    THAW_CONTROL("SequentialBudget", sequential_budget),
    THAW_EMITS("ReplayState", "s", property_replay_state),
    THAW_EMITS("ReplayReason", "s", property_replay_reason),
    THAW_SILENT("ReplayIO", "s", property_replay_io),
    THAW_STATE("ReplayTotal", replay_total),
    THAW_STATE("ReplayDone", replay_done),
    THAW_STATE("PopulateDone", populate_done),
    THAW_SILENT("PopulateState", "s", property_populate_state),
    THAW_STATE("Touches", touches),
    THAW_EMITS("Tracking", "s", property_tracking),
    THAW_SILENT("DirtyPages", "t", property_dirty),
    THAW_COUNTER("WriteFaults", write_faults),
    // Open to the method table, closed by the owner: sd-bus's own check would ask the bus driver
    // and wait.
    THAW_CHANGE(Close),
    SD_BUS_METHOD_WITH_ARGS(
        "TakeRecording", SD_BUS_ARGS("t", flags), SD_BUS_RESULT("h", recording),
        (bus_method<Session, &Session::method_change<Session::Change::TakeRecording>>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD_WITH_ARGS(
        "SetPrefetch", SD_BUS_ARGS("a{sv}", options, "t", flags), SD_BUS_NO_RESULT,
        (bus_method<Session, &Session::method_change<Session::Change::SetPrefetch>>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    THAW_CHANGE(Quiesce),
    THAW_CHANGE(Resume),
    THAW_CHANGE(Complete),
    THAW_CHANGE(StartTracking),
    THAW_CHANGE(StopTracking),
    SD_BUS_METHOD_WITH_ARGS(
        "TakeDirty", SD_BUS_ARGS("t", flags), SD_BUS_RESULT("h", bitmap),
        (bus_method<Session, &Session::method_change<Session::Change::TakeDirty>>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_VTABLE_END,
};

} // namespace thaw::pagerd
