// SPDX-License-Identifier: MIT
#pragma once

// The inside of SystemdClient: what is shared, and one class per kind of operation. An operation
// belongs to the caller and registers itself here while it listens; it may outlive the client.

#include "event/priorities.hpp"
#include "systemd/unit_reader.hpp"

#include <cstdint>
#include <map>
#include <optional>

namespace thaw {

inline constexpr std::string_view kErrorNoSuchJob = "org.freedesktop.systemd1.NoSuchJob";
inline constexpr std::string_view kErrorAlreadySubscribed =
    "org.freedesktop.systemd1.AlreadySubscribed";

class JobOperation;
class WatchOperation;

class SystemdClient::Impl {
public:
    Impl(Bus& bus_to_use, EventLoop& loop_to_use);
    Result<> start();

    // A StartUnit or StopUnit is under way: remember jobs that end before its reply is here.
    void call_sent();
    void call_answered();
    // The result of a job that ended before the reply which names it, sent by `sender`.
    std::optional<std::string> removed_result(const std::string& path, const std::string& sender);

    static constexpr Microseconds kRetryDelay = kUsecPerSec;

    Bus& bus;
    EventLoop& loop;
    std::uint64_t next_id = 0;
    std::map<std::uint64_t, JobOperation*> jobs;
    std::map<std::uint64_t, WatchOperation*> watches;

private:
    struct RemovedJob {
        std::string path;
        std::string result;
        std::string sender;
    };
    // More jobs than that do not end within one round trip; a flood of forged signals would grow.
    static constexpr std::size_t kMaxRemoved = 4096;

    void subscribe();
    void resync();
    void on_owner(const std::string& name);
    void on_job_removed(BusMessage& message);
    void on_unit_signal(BusMessage& message);
    void on_properties_changed(BusMessage& message);

    // Handlers may drop and add operations meanwhile.
    template <class Operation, class Action>
    static void for_each(std::map<std::uint64_t, Operation*>& all, Action action) {
        std::vector<std::uint64_t> ids;
        ids.reserve(all.size());
        for (const auto& [id, operation] : all)
            ids.push_back(id);
        for (const auto id : ids)
            if (auto found = all.find(id); found != all.end()) action(*found->second);
    }

    std::vector<BusSlot> matches_;
    BusSlot subscribe_call_;
    EventSource retry_;
    std::string owner_; // unique name of systemd's connection
    bool owner_known_ = false;
    unsigned unanswered_ = 0;
    std::vector<RemovedJob> removed_;
};

// One method call with one answer.
class CallOperation : public SystemdOperation {
public:
    CallOperation(
        const std::shared_ptr<SystemdClient::Impl>& client, Result<BusMessage> message,
        Bus::ReplyHandler handler
    );

private:
    BusSlot call_;
};

class ReadOperation : public SystemdOperation {
public:
    ReadOperation(
        const std::shared_ptr<SystemdClient::Impl>& client, const std::string& unit,
        std::function<void(Result<UnitState>)> handler
    );

private:
    systemd1::UnitReader reader_;
};

class JobOperation : public SystemdOperation {
public:
    enum class Kind { Start, Stop };
    JobOperation(
        const std::shared_ptr<SystemdClient::Impl>& client, Kind kind, std::string unit,
        const std::string& mode, SystemdClient::JobHandler handler
    );
    ~JobOperation() override;

    // Empty until systemd has answered.
    const std::string& path() const { return path_; }
    // Tells the caller; `this` may be gone afterwards.
    void finish(Result<std::string> result);
    // Does systemd still know the job? If not, the unit's state tells how it ended.
    void verify();

private:
    void on_reply(Result<BusMessage> reply);
    void judge_by_unit();
    void answered();

    std::weak_ptr<SystemdClient::Impl> client_;
    std::uint64_t id_ = 0;
    Kind kind_;
    std::string unit_;
    SystemdClient::JobHandler handler_;
    bool unanswered_ = true;
    std::string path_;
    BusSlot call_;
    systemd1::UnitReader reader_;
};

class WatchOperation : public SystemdOperation {
public:
    WatchOperation(
        const std::shared_ptr<SystemdClient::Impl>& client, std::string unit,
        std::function<void(const UnitState&)> handler
    );
    ~WatchOperation() override;

    const std::string& unit() const { return unit_; }
    const std::string& path() const { return path_; }
    // Something changed: reads the state (again).
    void refresh();

private:
    void read();
    void on_state(Result<UnitState> state);

    std::weak_ptr<SystemdClient::Impl> client_;
    std::uint64_t id_ = 0;
    std::string unit_;
    std::string path_;
    // Shared so that it survives being dropped from inside itself.
    std::shared_ptr<std::function<void(const UnitState&)>> handler_;
    std::optional<UnitState> told_;
    bool reading_ = false;
    systemd1::UnitReader reader_;
    EventSource retry_;
};

Result<> without_value(Result<BusMessage>& reply);

} // namespace thaw
