// SPDX-License-Identifier: MIT
#include "systemd/manager_client.hpp"

#include "bus/errors.hpp"
#include "systemd/manager_operations.hpp"

namespace thaw {

using namespace systemd1;

SystemdClient::SystemdClient(Bus& bus, EventLoop& loop)
    : impl_(std::make_shared<Impl>(bus, loop)) {}

SystemdClient::~SystemdClient() = default;

Result<> SystemdClient::start() {
    return impl_->start();
}

SystemdClient::Impl::Impl(Bus& bus_to_use, EventLoop& loop_to_use)
    : bus(bus_to_use), loop(loop_to_use) {
    static constexpr std::array kErrors{
        BusErrorName{kErrorNoSuchUnit, ENOENT},   BusErrorName{kErrorLoadFailed, EIO},
        BusErrorName{kErrorNoSuchProcess, ESRCH}, BusErrorName{kErrorNoUnitForPid, ESRCH},
        BusErrorName{kErrorNoSuchJob, ENOENT},    BusErrorName{kErrorAlreadySubscribed, EINVAL},
    };
    register_bus_errors(kErrors);
}

Result<> SystemdClient::Impl::start() {
    auto manager_signal = [this](const char* member, Bus::SignalHandler handler) -> Result<> {
        THAW_TRY(
            auto slot,
            bus.match_signal(kBusName, kPath, kManagerInterface, member, std::move(handler))
        );
        matches_.push_back(std::move(slot));
        return {};
    };
    THAW_CHECK(manager_signal("JobRemoved", [this](BusMessage& m) { on_job_removed(m); }));
    THAW_CHECK(manager_signal("UnitNew", [this](BusMessage& m) { on_unit_signal(m); }));
    THAW_CHECK(manager_signal("UnitRemoved", [this](BusMessage& m) { on_unit_signal(m); }));
    THAW_CHECK(manager_signal("Reloading", [this](BusMessage& m) {
        int active = 0;
        if (m.read("b", &active) && active == 0) resync();
    }));
    // One match for all units: the bus limits how many a connection may have. systemd announces
    // the interface of the unit's type and Unit together, so one of them suffices.
    THAW_TRY(
        auto changed, bus.match_rule(
                          fmt::format(
                              "type='signal',sender='{}',path_namespace='{}',interface='{}',"
                              "member='PropertiesChanged',arg0='{}'",
                              kBusName, kUnitPrefix, kPropertiesInterface, kUnitInterface
                          ),
                          [this](BusMessage& m) { on_properties_changed(m); }
                      )
    );
    matches_.push_back(std::move(changed));
    THAW_TRY(auto owner, bus.watch_name_owner(kBusName, [this](const std::string& name) {
        on_owner(name);
    }));
    matches_.push_back(std::move(owner));
    subscribe();
    return {};
}

void SystemdClient::Impl::subscribe() {
    subscribe_call_ =
        bus.call(manager_call(bus, "Subscribe", ""), [this](Result<BusMessage> reply) {
            if (reply || reply.error().bus_name() == kErrorAlreadySubscribed) return;
            // Without systemd on the bus on_owner() tries again; a busy systemd is asked again.
            if (owner_.empty()) return;
            auto timer = loop.add_timer(
                kRetryDelay, [this] { subscribe(); }, "systemd-subscribe", priority::kTimer
            );
            if (timer) retry_ = std::move(*timer);
        });
}

void SystemdClient::Impl::on_owner(const std::string& name) {
    const bool first = !std::exchange(owner_known_, true);
    if (name.empty()) {
        owner_.clear();
        return;
    }
    // At the start Subscribe() is on its way already, unless systemd came after it was sent.
    const bool same = owner_ == name;
    owner_ = name;
    if (!first && !same) resync();
}

void SystemdClient::Impl::resync() {
    subscribe();
    for_each(watches, [](WatchOperation& watch) { watch.refresh(); });
    for_each(jobs, [](JobOperation& job) { job.verify(); });
}

void SystemdClient::Impl::on_job_removed(BusMessage& message) {
    std::uint32_t id = 0;
    const char *path = nullptr, *unit = nullptr, *result = nullptr;
    if (!message.read("uoss", &id, &path, &unit, &result)) return;
    const auto sender = message.sender();
    // Anybody can send us a signal that looks like systemd's.
    if (!owner_.empty() && !sender.empty() && sender != owner_) return;
    const std::string job_path = path, word = result;
    const bool waiting = unanswered_ > 0;
    for_each(jobs, [&](JobOperation& job) {
        if (job.path() == job_path) job.finish(word);
    });
    // It may belong to a call whose reply is still on its way.
    if (waiting && removed_.size() < kMaxRemoved) removed_.push_back({job_path, word, sender});
}

void SystemdClient::Impl::on_unit_signal(BusMessage& message) {
    const char *unit = nullptr, *path = nullptr;
    if (!message.read("so", &unit, &path)) return;
    const std::string unit_name = unit;
    for_each(watches, [&](WatchOperation& watch) {
        if (watch.unit() == unit_name) watch.refresh();
    });
}

void SystemdClient::Impl::on_properties_changed(BusMessage& message) {
    const std::string path = sd_bus_message_get_path(message.get());
    for_each(watches, [&](WatchOperation& watch) {
        if (watch.path() == path) watch.refresh();
    });
}

void SystemdClient::Impl::call_sent() {
    ++unanswered_;
}

void SystemdClient::Impl::call_answered() {
    if (--unanswered_ == 0) removed_.clear();
}

std::optional<std::string>
SystemdClient::Impl::removed_result(const std::string& path, const std::string& sender) {
    if (owner_.empty()) owner_ = sender;
    for (const auto& entry : removed_)
        if (entry.path == path && entry.sender == sender) return entry.result;
    return std::nullopt;
}

SystemdHandle
SystemdClient::start_unit(const std::string& unit, const std::string& mode, JobHandler handler) {
    return std::make_unique<JobOperation>(
        impl_, JobOperation::Kind::Start, unit, mode, std::move(handler)
    );
}

SystemdHandle
SystemdClient::stop_unit(const std::string& unit, const std::string& mode, JobHandler handler) {
    return std::make_unique<JobOperation>(
        impl_, JobOperation::Kind::Stop, unit, mode, std::move(handler)
    );
}

SystemdHandle SystemdClient::kill_unit(
    const std::string& unit, const std::string& who, int signal,
    std::function<void(Result<>)> handler
) {
    return std::make_unique<CallOperation>(
        impl_, manager_call(impl_->bus, "KillUnit", "ssi", unit.c_str(), who.c_str(), signal),
        [handler = std::move(handler)](Result<BusMessage> reply) { handler(without_value(reply)); }
    );
}

SystemdHandle
SystemdClient::reset_failed(const std::string& unit, std::function<void(Result<>)> handler) {
    return std::make_unique<CallOperation>(
        impl_, manager_call(impl_->bus, "ResetFailedUnit", "s", unit.c_str()),
        [handler = std::move(handler)](Result<BusMessage> reply) {
            if (!reply && reply.error().bus_name() == kErrorNoSuchUnit)
                handler({});
            else
                handler(without_value(reply));
        }
    );
}

SystemdHandle
SystemdClient::read_unit(const std::string& unit, std::function<void(Result<UnitState>)> handler) {
    return std::make_unique<ReadOperation>(impl_, unit, std::move(handler));
}

SystemdHandle
SystemdClient::watch_unit(const std::string& unit, std::function<void(const UnitState&)> handler) {
    return std::make_unique<WatchOperation>(impl_, unit, std::move(handler));
}

SystemdHandle
SystemdClient::unit_of_pid(pid_t pid, std::function<void(Result<std::string>)> handler) {
    return std::make_unique<CallOperation>(
        impl_, manager_call(impl_->bus, "GetUnitByPID", "u", static_cast<std::uint32_t>(pid)),
        [handler = std::move(handler)](Result<BusMessage> reply) {
            if (!reply) {
                handler(std::unexpected(std::move(reply).error()));
                return;
            }
            const char* path = nullptr;
            if (auto done = reply->read("o", &path); !done)
                handler(std::unexpected(std::move(done).error()));
            else
                handler(decode_object_path(kUnitPrefix, path));
        }
    );
}

SystemdHandle SystemdClient::attach_processes(
    const std::string& unit, const std::vector<pid_t>& pids, std::function<void(Result<>)> handler
) {
    auto build = [&]() -> Result<BusMessage> {
        THAW_TRY(
            auto message, manager_call(impl_->bus, "AttachProcessesToUnit", "ss", unit.c_str(), "")
        );
        THAW_CHECK(message.open_container('a', "u"));
        for (const pid_t pid : pids)
            THAW_CHECK(message.append("u", static_cast<std::uint32_t>(pid)));
        THAW_CHECK(message.close_container());
        return message;
    };
    return std::make_unique<CallOperation>(
        impl_, build(),
        [handler = std::move(handler)](Result<BusMessage> reply) { handler(without_value(reply)); }
    );
}

} // namespace thaw
