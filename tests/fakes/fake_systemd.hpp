// SPDX-License-Identifier: MIT
#pragma once

// A fake org.freedesktop.systemd1, scripted by the test and driven by the test's own event loop.
// It follows the documented protocol: jobs with object paths, JobNew before the reply, JobRemoved
// only for subscribers, PropertiesChanged of unit objects, UnitNew and UnitRemoved also for units
// that are loaded only because somebody looked at them. By default everything succeeds; a plan
// makes the next starts or stops of a unit late, failing, out of order or without any answer.

#include "bus/bus.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>

namespace thaw::fakes {

struct FakeUnit {
    std::string load_state = "loaded";
    std::string active_state = "inactive";
    std::string sub_state = "dead";
    std::string result = "success";
    std::uint32_t main_pid = 0;
    std::int32_t exec_main_code = 0;
    std::int32_t exec_main_status = 0;
    std::uint64_t left_active = 0; // ActiveExitTimestampMonotonic
    std::uint64_t main_ended = 0;  // ExecMainExitTimestampMonotonic
};

// What one StartUnit or StopUnit does.
struct FakePlan {
    std::string error_name;       // answer with this D-Bus error, no job
    bool never_reply = false;     // no answer at all (and no job)
    Microseconds reply_delay = 0; // the job is made at once, its reply comes later
    bool removed_first = false;   // JobRemoved overtakes the reply
    bool never_finish = false;    // the job stays until finish_job()
    Microseconds job_delay = 0;   // from reply to JobRemoved
    std::string job_result = "done";
    std::string active_state = {}; // unit's state afterwards; empty: by kind and result
    std::string unit_result = {};  // Result= afterwards; empty: success or exit-code
    int exec_main_code = 0;        // ExecMainCode= and ExecMainStatus= afterwards
    int exec_main_status = 0;
};

struct FakeCall {
    std::string member;
    std::string unit;
    std::string mode; // mode of jobs, whom of KillUnit
    int signal = 0;
    std::vector<std::uint32_t> pids;
};

class FakeSystemd {
public:
    // On a connection to a bus: asks for the name org.freedesktop.systemd1. On a peer-to-peer
    // connection pass own_name = false.
    static Result<std::unique_ptr<FakeSystemd>>
    create(EventLoop& loop, Bus bus, bool own_name = true);
    ~FakeSystemd();
    FakeSystemd(const FakeSystemd&) = delete;
    FakeSystemd& operator=(const FakeSystemd&) = delete;

    bool owns_name() const { return owns_name_; }
    std::size_t subscribers() const { return subscribers_.size(); }

    // ---- units
    // A unit whose file exists. Starting any other one is NoSuchUnit.
    void add_unit(const std::string& name, FakeUnit unit = {});
    FakeUnit* unit(const std::string& name);
    // Changes a unit and announces it.
    void change_unit(const std::string& name, const std::function<void(FakeUnit&)>& change);
    // The main process ended by itself: "failed" with this Result=, or "inactive" for "success".
    void end_unit(const std::string& name, const std::string& result);
    // Drops the unit from memory (its file stays): UnitRemoved; GetUnit says NoSuchUnit.
    void unload_unit(const std::string& name);
    void set_pid_unit(std::uint32_t pid, const std::string& unit) { pid_units_[pid] = unit; }

    // ---- script: a plan is used up by one call
    void plan_start(const std::string& unit, const FakePlan& plan) {
        start_plans_[unit].push_back(plan);
    }
    void plan_stop(const std::string& unit, const FakePlan& plan) {
        stop_plans_[unit].push_back(plan);
    }
    // Error that KillUnit answers with; empty: KillUnit works.
    void set_kill_error(std::string name) { kill_error_ = std::move(name); }
    // Subscribe gets no answer while set.
    void set_silent(bool silent) { silent_ = silent; }
    // Runs on every method call, before it takes effect; e.g. to start a process.
    void on_call(std::function<void(const FakeCall&)> hook) { on_call_ = std::move(hook); }
    // Runs when a unit changed to a new ActiveState, before it is announced.
    void on_state(std::function<void(const std::string& unit, FakeUnit&)> hook) {
        on_state_ = std::move(hook);
    }

    // ---- jobs
    // Ends the pending job of the unit; false when there is none.
    bool finish_job(const std::string& unit, const std::string& result);
    bool has_job(const std::string& unit) const;
    // A start job of somebody else, there until finish_job().
    void add_job(const std::string& unit);
    // Forgets all jobs without a word, as a crashed and restarted systemd would.
    void forget_jobs();

    // ---- life
    // Reloading(true), then Reloading(false).
    void reload();
    // Leaves the bus: pending calls break. Units and jobs are kept, subscriptions are not.
    void vanish();
    // Appears again on a new connection.
    Result<> come_back(Bus bus, bool own_name = true);

    const std::vector<FakeCall>& calls() const { return calls_; }
    std::size_t count_calls(const std::string& member) const;
    void clear_calls() { calls_.clear(); }

private:
    struct Job;
    struct Vtables;
    friend struct Vtables;
    FakeSystemd(EventLoop& loop, Bus bus);
    Result<> go_public(bool own_name);

    Result<> method_start(BusMessage message);
    Result<> method_stop(BusMessage message);
    Result<> method_kill(BusMessage message);
    Result<> method_reset_failed(BusMessage message);
    Result<> method_subscribe(BusMessage message);
    Result<> method_get_unit(BusMessage message);
    Result<> method_load_unit(BusMessage message);
    Result<> method_get_unit_by_pid(BusMessage message);
    Result<> method_list(BusMessage message);
    Result<> method_attach(BusMessage message);

    Result<> make_job(BusMessage message, bool start);
    void answer_job(Job& job);
    void remove_job(std::uint32_t id);
    void begin(const Job& job);
    void apply(Job& job);
    FakePlan take_plan(const std::string& unit, bool start);
    void note(FakeCall call);
    void announce(const std::string& name);
    void emit_job_removed(const Job& job);
    void emit_unit_signal(const char* member, const std::string& name);
    FakeUnit* find_or_load(const std::string& name);
    void* find_unit_object(const std::string& path);
    void* find_job_object(const std::string& path);
    void later(Microseconds delay, std::function<void()> action);

    EventLoop& loop_;
    std::optional<Bus> bus_;
    std::vector<BusSlot> slots_;
    bool owns_name_ = false;
    bool silent_ = false;
    std::uint32_t next_job_ = 1;
    std::string kill_error_;
    std::map<std::string, FakeUnit> units_;
    std::map<std::string, FakeUnit> stubs_; // not-found units, loaded for a moment
    std::set<std::string> unloaded_;
    std::map<std::uint32_t, std::string> pid_units_;
    std::map<std::uint32_t, std::unique_ptr<Job>> jobs_;
    std::map<std::string, std::deque<FakePlan>> start_plans_;
    std::map<std::string, std::deque<FakePlan>> stop_plans_;
    std::set<std::string> subscribers_;
    std::function<void(const FakeCall&)> on_call_;
    std::function<void(const std::string&, FakeUnit&)> on_state_;
    std::vector<FakeCall> calls_;
    std::vector<BusMessage> unanswered_;
    std::uint64_t next_timer_ = 0;
    std::map<std::uint64_t, EventSource> timers_;
};

} // namespace thaw::fakes
