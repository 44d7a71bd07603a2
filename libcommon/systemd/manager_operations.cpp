// SPDX-License-Identifier: MIT
#include "systemd/manager_operations.hpp"

#include "bus/errors.hpp"

namespace thaw {

using namespace systemd1;

Result<> without_value(Result<BusMessage>& reply) {
    if (!reply) return std::unexpected(std::move(reply).error());
    return {};
}

CallOperation::CallOperation(
    const std::shared_ptr<SystemdClient::Impl>& client, Result<BusMessage> message,
    Bus::ReplyHandler handler
) {
    call_ = client->bus.call(
        std::move(message),
        [alive = std::weak_ptr(client), handler = std::move(handler)](Result<BusMessage> reply) {
            if (!alive.expired()) handler(std::move(reply));
        }
    );
}

ReadOperation::ReadOperation(
    const std::shared_ptr<SystemdClient::Impl>& client, const std::string& unit,
    std::function<void(Result<UnitState>)> handler
) {
    reader_.start(
        client->bus, unit, UnitReader::Mode::Load,
        [alive = std::weak_ptr(client), handler = std::move(handler)](Result<UnitState> state) {
            if (!alive.expired()) handler(std::move(state));
        }
    );
}

// ---- jobs -----------------------------------------------------------------------------------

JobOperation::JobOperation(
    const std::shared_ptr<SystemdClient::Impl>& client, Kind kind, std::string unit,
    const std::string& mode, SystemdClient::JobHandler handler
)
    : client_(client), id_(client->next_id++), kind_(kind), unit_(std::move(unit)),
      handler_(std::move(handler)) {
    client->jobs[id_] = this;
    client->call_sent();
    const char* member = kind_ == Kind::Start ? "StartUnit" : "StopUnit";
    call_ = client->bus.call(
        manager_call(client->bus, member, "ss", unit_.c_str(), mode.c_str()),
        [this](Result<BusMessage> reply) { on_reply(std::move(reply)); }
    );
}

JobOperation::~JobOperation() {
    answered();
    if (auto client = client_.lock()) client->jobs.erase(id_);
}

void JobOperation::answered() {
    if (!std::exchange(unanswered_, false)) return;
    if (auto client = client_.lock()) client->call_answered();
}

void JobOperation::on_reply(Result<BusMessage> reply) {
    auto client = client_.lock();
    if (!client) return;
    if (!reply) {
        const auto name = reply.error().bus_name();
        const bool absent = name == kErrorNoSuchUnit || name == kErrorLoadFailed;
        if (kind_ == Kind::Stop && absent)
            finish("done");
        else
            finish(std::unexpected(std::move(reply).error()));
        return;
    }
    const char* path = nullptr;
    if (auto done = reply->read("o", &path); !done) {
        finish(std::unexpected(std::move(done).error()));
        return;
    }
    path_ = path;
    auto over = client->removed_result(path_, reply->sender());
    answered();
    if (over) finish(std::move(*over));
}

void JobOperation::finish(Result<std::string> result) {
    answered();
    call_.reset();
    auto client = client_.lock();
    if (!client) return;
    client->jobs.erase(id_);
    auto handler = std::exchange(handler_, nullptr);
    if (handler) handler(std::move(result));
}

void JobOperation::verify() {
    auto client = client_.lock();
    if (!client || path_.empty()) return; // the bus itself ends unanswered calls
    auto message = client->bus.new_call(kBusName, path_, kPropertiesInterface, "Get");
    if (message)
        if (auto filled = message->append("ss", kJobInterface, "Unit"); !filled)
            message = std::unexpected(std::move(filled).error());
    call_ = client->bus.call(std::move(message), [this](Result<BusMessage> reply) {
        if (!reply) {
            const auto name = reply.error().bus_name();
            if (name == kErrorUnknownObject || name == kErrorNoSuchJob) judge_by_unit();
            return; // systemd is away again: the next resync asks again
        }
        const char *unit = nullptr, *unit_path = nullptr;
        // A new systemd may have given the number to another job.
        if (!reply->read("v", "(so)", &unit, &unit_path) || unit_ != unit) judge_by_unit();
    });
}

void JobOperation::judge_by_unit() {
    auto client = client_.lock();
    if (!client) return;
    reader_.start(client->bus, unit_, UnitReader::Mode::Load, [this](Result<UnitState> state) {
        if (!state) return; // as above
        const auto& active = state->active_state;
        const bool reached =
            kind_ == Kind::Stop ? state->is_gone() : active == "active" || active == "reloading";
        finish(reached ? "done" : "failed");
    });
}

// ---- watches --------------------------------------------------------------------------------

WatchOperation::WatchOperation(
    const std::shared_ptr<SystemdClient::Impl>& client, std::string unit,
    std::function<void(const UnitState&)> handler
)
    : client_(client), id_(client->next_id++), unit_(std::move(unit)), path_(unit_path(unit_)),
      handler_(std::make_shared<std::function<void(const UnitState&)>>(std::move(handler))) {
    client->watches[id_] = this;
    read();
}

WatchOperation::~WatchOperation() {
    if (auto client = client_.lock()) client->watches.erase(id_);
}

void WatchOperation::refresh() {
    // Replies and signals come in the order systemd sent them: what is announced while a read is
    // under way is in its reply.
    if (!reading_) read();
}

void WatchOperation::read() {
    auto client = client_.lock();
    if (!client) return;
    reading_ = true;
    retry_.reset();
    // Only the first read loads the unit. A later one would have systemd announce a unit that is
    // gone as new, and us read it again, without end.
    const auto mode = told_ ? UnitReader::Mode::IfLoaded : UnitReader::Mode::Load;
    reader_.start(client->bus, unit_, mode, [this](Result<UnitState> state) {
        on_state(std::move(state));
    });
}

void WatchOperation::on_state(Result<UnitState> state) {
    auto client = client_.lock();
    if (!client) return;
    reading_ = false;
    if (!state) {
        // systemd is away or busy; its return makes us read too, but may go unnoticed when it
        // kept its name.
        auto timer = client->loop.add_timer(
            SystemdClient::Impl::kRetryDelay, [this] { refresh(); }, "systemd-watch",
            priority::kTimer
        );
        if (timer) retry_ = std::move(*timer);
        return;
    }
    // A unit that systemd has dropped keeps what was last known about its end.
    if (told_ && *state == not_loaded_state()) {
        auto gone = *told_;
        if (!gone.is_gone()) gone.active_state = "inactive";
        gone.sub_state = gone.active_state == "failed" ? gone.sub_state : "dead";
        gone.main_pid = 0;
        state = std::move(gone);
    }
    if (told_ == *state) return;
    told_ = *state;
    auto handler = handler_;
    (*handler)(*state); // `this` may be gone now
}

} // namespace thaw
