// SPDX-License-Identifier: MIT
#pragma once

// The restore manager: all jobs and VMs, the queue, what news of units and sessions mean, and the
// way back after a restart. One thread, no blocking bus call.

#include "bus/polkit.hpp"
#include "context.hpp"
#include "daemon/daemon.hpp"
#include "instance.hpp"
#include "job.hpp"
#include "record_job.hpp"
#include "restore_job.hpp"
#include "snapshot_job.hpp"
#include "writer_pause.hpp"

#include <systemd/sd-bus-vtable.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace thaw::restore {

class Manager : public DaemonService {
public:
    static Result<std::unique_ptr<Manager>>
    create(const DaemonContext& daemon, const Config& config);

    Result<> start() override;
    void ready() override;
    std::string status_text() const override;

    // ---- of jobs and instances
    void job_changed(Job& job);
    void job_finished(Job& job);
    void unit_changed(Instance& instance, const UnitState& unit);
    void session_changed(Instance& instance, const PagerSession& session);
    void rootfs_changed(Instance& instance, const std::string& service, const UnitState& unit);
    // A VM was paused or resumed, or could not be.
    void vm_state_changed() { writers_.look(); }
    // The object stays until the loop turns; nothing of it is found any more.
    void remove_instance(Instance& instance, std::string_view result);
    // Its unit could not be stopped: it stays on the books until it ends or somebody tries again.
    void keep_stuck_instance(Instance& instance);
    std::size_t count_live(const std::string& image) const;
    // nullptr when there is none of that name.
    Instance* find_instance(const std::string& name);
    // Puts a recording VM on the books and restores it; its job. The Error is the record's.
    Result<Job*>
    restore_for_recording(const std::string& name, const std::string& image, uid_t uid);
    // The job that stops it; nullptr when there is nothing left to stop.
    Job* stop_recording(const std::string& name);

    // ---- requests from the bus; each answers `message` sooner or later
    void request_cancel(BusMessage message, std::uint32_t id);
    Result<> request_stop(BusMessage message, const std::string& name, std::uint64_t flags);
    void request_vm_state(BusMessage message, const std::string& name, VmState state);

    static const sd_bus_vtable* vtable();

private:
    Manager(
        const DaemonContext& daemon, const Config& config, std::unique_ptr<VmmApi> vmm,
        std::unique_ptr<Disk> disk, std::unique_ptr<metrics::DirtyThrottle> throttle
    );

    // manager_bus.cpp
    Result<> export_objects();
    Result<> method_restore(BusMessage message);
    Result<> method_stop(BusMessage message);
    Result<> method_record(BusMessage message);
    Result<> method_snapshot(BusMessage message);
    Result<> method_cancel(BusMessage message);
    Result<> method_get_job(BusMessage message);
    Result<> method_get_instance(BusMessage message);
    Result<> method_list_jobs(BusMessage message);
    Result<> method_list_instances(BusMessage message);
    Result<> method_set_policy(BusMessage message);
    Result<> append_version(BusMessage& reply) const;
    Result<> append_jobs(BusMessage& reply) const;
    Result<> append_job_results(BusMessage& reply) const;
    Result<> append_throttle(BusMessage& reply) const;
    Result<> append_throttled(BusMessage& reply) const;
    Result<> append_throttle_looks(BusMessage& reply) const;
    Result<> append_instances(BusMessage& reply) const;
    Result<> append_max_jobs(BusMessage& reply) const;
    Result<> append_backend(BusMessage& reply) const;
    Result<> append_prefetch(BusMessage& reply) const;
    Result<> append_recording(BusMessage& reply) const;
    void changed(std::vector<std::string> properties);

    // manager_requests.cpp
    void authorize(
        const BusMessage& message, const char* action, const std::string& instance,
        std::function<void()> allowed
    );
    // `owned_by`: whose what is asked for is; nothing when it is nobody's yet.
    void authorize_for(
        const BusMessage& message, const char* action, const std::string& instance,
        std::optional<uid_t> owned_by, std::function<void()> allowed
    );
    void answer_with_job(BusMessage& message, const Job& job);
    void accept_restore(
        BusMessage& message, const std::string& name, const std::string& image,
        const RestoreOptions& options, uid_t uid
    );
    Result<> may_restore(const std::string& name, const std::string& image) const;
    void accept_record(
        BusMessage& message, const std::string& image, const RecordRequest& request, uid_t uid
    );
    void accept_snapshot(
        BusMessage& message, const std::string& name, const std::string& image,
        SnapshotJob::Kind kind, uid_t uid
    );
    Result<> may_record(const std::string& image) const;
    std::string recording_name(std::uint32_t job) const;
    void accept_stop(BusMessage& message, const std::string& name, uid_t uid);
    Result<> set_policy(std::string_view key, BusMessage& value);

    // manager.cpp
    JobRecord new_job(JobKind kind, uid_t uid);
    Job& add_job(std::unique_ptr<Job> job);
    Instance& add_instance(Record record);
    Job& stop_instance(Instance& instance, uid_t uid, std::optional<Failure> cause = {});
    Job* find_job(std::uint32_t id);
    Job* job_of(const Instance& instance);
    std::size_t count_unfinished() const;
    void forget_job(std::uint32_t id);
    void schedule();
    void pump();
    void collect_later();
    void instance_ended(Instance& instance, const UnitState& unit);

    // recovery.cpp
    void load_policy();
    Result<> load_records();
    void add_recorded(const Record& record);
    void add_leftover(const std::string& name);
    std::vector<std::string> units_with_drop_in() const;
    void take_up();
    void look_for_sessions();
    void look_for_lost_shares();
    void share_lost(const LostShare& share);

    EventLoop& loop_;
    Bus& bus_;
    Config config_;
    Policy policy_;
    image::Store images_;
    RecordStore records_;
    std::unique_ptr<VmmApi> vmm_;
    std::unique_ptr<Disk> disk_;
    std::unique_ptr<metrics::DirtyThrottle> throttle_;
    SystemdClient systemd_;
    PagerClient pager_;
    SharesClient shares_;
    guard::GuardClient guard_;
    Polkit polkit_;
    Context context_;

    std::uint32_t last_job_ = 0;
    bool is_ready_ = false;
    std::set<std::string> adopting_; // found in records, not seen running yet
    std::set<std::pair<std::string, std::string>> lost_told_; // VM and tag of shares lost
    std::vector<std::string> leftover_recordings_;
    std::set<std::string> leftovers_; // found without a record, not seen running yet
    std::map<std::string, std::unique_ptr<Instance>> instances_;
    std::map<std::uint32_t, std::unique_ptr<Job>> jobs_;               // finished ones for a while
    std::map<std::pair<JobKind, std::string>, std::uint64_t> results_; // of all that ended
    std::vector<std::uint32_t> queue_;
    std::set<std::uint32_t> running_restores_;
    std::vector<std::uint32_t> interrupted_; // restores that a restart of ours met at work
    std::vector<std::uint32_t> interrupted_snapshots_;
    std::map<std::uint32_t, EventSource> retention_;
    std::vector<std::unique_ptr<Instance>> dead_instances_;
    std::vector<std::unique_ptr<Job>> dead_jobs_;
    std::vector<BusSlot> slots_;
    PagerHandle sessions_;
    SharesHandle lost_;
    WriterPause writers_;
    EventSource pump_;
    EventSource collect_;
};

} // namespace thaw::restore
