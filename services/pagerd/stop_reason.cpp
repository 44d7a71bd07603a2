// SPDX-License-Identifier: MIT
#include "stop_reason.hpp"

#include "event/priorities.hpp"

#include <utility>

namespace thaw::pagerd {

namespace {
constexpr const char* kSystemd = "org.freedesktop.systemd1";
constexpr const char* kUnitPrefix = "/org/freedesktop/systemd1/unit";
constexpr const char* kOwnUnit = "thaw-pagerd.service";
// Well below TimeoutStopSec= of the unit.
constexpr Microseconds kTimeout = kUsecPerSec;
} // namespace

std::unique_ptr<StopReason> StopReason::ask(EventLoop& loop, Bus& bus, Handler handler) {
    std::unique_ptr<StopReason> reason(new StopReason(bus, std::move(handler)));
    auto* self = reason.get();
    self->question_ = self->get_property(
        encode_object_path(kUnitPrefix, kOwnUnit), "org.freedesktop.systemd1.Unit", "Job",
        [self](Result<BusMessage> reply) { self->on_job(std::move(reply)); }
    );
    auto deadline =
        loop.add_timer(kTimeout, [self] { self->finish({}); }, "stop-reason", priority::kTimer);
    if (deadline) self->deadline_ = std::move(*deadline);
    return reason;
}

BusSlot StopReason::get_property(
    const std::string& path, const char* interface, const char* property, Bus::ReplyHandler handler
) {
    auto call = bus_.new_call(kSystemd, path, "org.freedesktop.DBus.Properties", "Get");
    if (call)
        if (auto filled = call->append("ss", interface, property); !filled)
            call = std::unexpected(std::move(filled).error());
    return bus_.call(std::move(call), std::move(handler), kTimeout);
}

void StopReason::on_job(Result<BusMessage> reply) {
    std::uint32_t id = 0;
    const char* path = nullptr;
    if (!reply || !reply->enter_container('v', "(uo)") || !reply->read("(uo)", &id, &path) ||
        id == 0)
        return finish({});
    second_question_ = get_property(
        path, "org.freedesktop.systemd1.Job", "JobType",
        [this](Result<BusMessage> answer) { on_type(std::move(answer)); }
    );
}

void StopReason::on_type(Result<BusMessage> reply) {
    const char* type = nullptr;
    if (!reply || !reply->enter_container('v', "s") || !reply->read("s", &type)) return finish({});
    finish(type);
}

void StopReason::finish(const std::string& job_type) {
    deadline_.reset();
    if (const auto handler = std::exchange(handler_, nullptr)) handler(job_type);
}

} // namespace thaw::pagerd
