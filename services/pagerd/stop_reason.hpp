// SPDX-License-Identifier: MIT
#pragma once

// Whether SIGTERM means stop or restart: the type of the job that PID 1 runs for our unit, asked
// over the bus without waiting.

#include "bus/bus.hpp"

#include <functional>
#include <memory>
#include <string>

namespace thaw::pagerd {

class StopReason {
public:
    // "stop", "restart", ...; empty when there is no job or no answer in time.
    using Handler = std::function<void(const std::string& job_type)>;
    static std::unique_ptr<StopReason> ask(EventLoop& loop, Bus& bus, Handler handler);

private:
    StopReason(Bus& bus, Handler handler) : bus_(bus), handler_(std::move(handler)) {}
    BusSlot get_property(
        const std::string& path, const char* interface, const char* property,
        Bus::ReplyHandler handler
    );
    void on_job(Result<BusMessage> reply);
    void on_type(Result<BusMessage> reply);
    void finish(const std::string& job_type);

    Bus& bus_;
    Handler handler_;
    BusSlot question_;
    BusSlot second_question_;
    EventSource deadline_;
};

} // namespace thaw::pagerd
