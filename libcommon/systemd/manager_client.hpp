// SPDX-License-Identifier: MIT
#pragma once

// PID 1 over the bus: jobs tracked by object path, unit states read (signals are only hints).
// JobRemoved is matched and Subscribe() called before any job is queued, so no result is missed;
// when systemd reappears on the bus the subscription is renewed and watched units are read again.

#include "bus/bus.hpp"

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace thaw {

// systemd's own errors that callers tell apart.
inline constexpr std::string_view kErrorNoSuchUnit = "org.freedesktop.systemd1.NoSuchUnit";
inline constexpr std::string_view kErrorLoadFailed = "org.freedesktop.systemd1.LoadFailed";
inline constexpr std::string_view kErrorNoSuchProcess = "org.freedesktop.systemd1.NoSuchProcess";
inline constexpr std::string_view kErrorNoUnitForPid = "org.freedesktop.systemd1.NoUnitForPID";

struct UnitState {
    std::string load_state;   // "loaded", "not-found", ...
    std::string active_state; // "active", "inactive", "failed", "activating", "deactivating"
    std::string sub_state;
    std::string result;     // service result: "success", "exit-code", "signal", "oom-kill", ...
    std::string invocation; // InvocationID as the journal writes it; empty: never started
    pid_t main_pid = 0;
    int exec_main_code = 0; // CLD_EXITED, CLD_KILLED, ...
    int exec_main_status = 0;
    Microseconds left_active = 0; // ActiveExitTimestampMonotonic, 0: never
    Microseconds main_ended = 0;  // ExecMainExitTimestampMonotonic
    bool operator==(const UnitState&) const = default;
    bool is_gone() const { return active_state == "inactive" || active_state == "failed"; }
    // Somebody stopped the unit, rather than that its main process ended.
    bool was_stopped() const { return left_active != 0 && left_active < main_ended; }
};

// Owns one outstanding operation; destroying it, or the client, forgets the callback (a queued job
// goes on). Callbacks come from the event loop, never from inside the call that asked for them.
class SystemdOperation {
public:
    virtual ~SystemdOperation() = default;
};
using SystemdHandle = std::unique_ptr<SystemdOperation>;

class SystemdClient {
public:
    // `bus` and `loop` must outlive the client.
    SystemdClient(Bus& bus, EventLoop& loop);
    ~SystemdClient();
    SystemdClient(const SystemdClient&) = delete;
    SystemdClient& operator=(const SystemdClient&) = delete;

    // Installs matches and subscribes. Call once, before the first job.
    Result<> start();

    // The job's result word: done, canceled, timeout, failed, dependency, skipped, assert, ... When
    // systemd was restarted meanwhile and knows the job no more, the unit's state says whether it
    // was "done" or "failed". No time limit: that is the caller's.
    using JobHandler = std::function<void(Result<std::string> result)>;
    [[nodiscard]] SystemdHandle
    start_unit(const std::string& unit, const std::string& mode, JobHandler handler);
    // A unit that is not loaded counts as stopped: "done".
    [[nodiscard]] SystemdHandle
    stop_unit(const std::string& unit, const std::string& mode, JobHandler handler);
    // who: "main", "control", "all". Errors: kErrorNoSuchUnit, kErrorNoSuchProcess.
    [[nodiscard]] SystemdHandle kill_unit(
        const std::string& unit, const std::string& who, int signal,
        std::function<void(Result<>)> handler
    );
    // A unit that is not loaded has nothing to reset: success.
    [[nodiscard]] SystemdHandle
    reset_failed(const std::string& unit, std::function<void(Result<>)> handler);
    // Never fails for a unit that does not exist: load_state "not-found", active_state "inactive".
    [[nodiscard]] SystemdHandle
    read_unit(const std::string& unit, std::function<void(Result<UnitState>)> handler);
    // Called with the state at once (asynchronously) and after every change until dropped. States
    // that follow each other quickly may be left out, the last one never is.
    [[nodiscard]] SystemdHandle
    watch_unit(const std::string& unit, std::function<void(const UnitState&)> handler);
    // Name of the unit a process belongs to. kErrorNoUnitForPid when it belongs to none.
    [[nodiscard]] SystemdHandle
    unit_of_pid(pid_t pid, std::function<void(Result<std::string>)> handler);
    // Moves processes into a unit's (delegated) cgroup.
    [[nodiscard]] SystemdHandle attach_processes(
        const std::string& unit, const std::vector<pid_t>& pids,
        std::function<void(Result<>)> handler
    );
    // daemon-reload is never needed by us: drop-ins are written before a unit is first loaded.

    class Impl; // systemd/manager_operations.hpp

private:
    std::shared_ptr<Impl> impl_; // operations look at it weakly
};

} // namespace thaw
