// SPDX-License-Identifier: MIT
#pragma once

// A restore at work: runs the steps of restore_plan.hpp whose needs are met, and on the first
// failure finds the cause, undoes what was made and ends with exactly one error. After a restart of
// the manager recover() takes the place of start(): the VM is proven to run, or is stopped.

#include "instance.hpp"
#include "job.hpp"
#include "options.hpp"
#include "rootfs_options.hpp"
#include "teardown.hpp"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::restore {

class RestoreJob : public Job {
public:
    // `instance` outlives the job's work.
    RestoreJob(
        const Context& context, const JobRecord& record, Instance& instance, RestoreOptions options
    );

    void start() override;
    void recover();
    Result<> cancel() override;
    void on_unit(const UnitState& unit) override;
    void on_session(const PagerSession& session) override;
    void on_share_lost(const LostShare& share) override;
    void on_rootfs_lost(const std::string& why) override;

private:
    // The table at work.
    void advance();
    void run(Step step);
    void finished(Step step);
    void on_limit(Step step);
    void publish_plan();

    // restore_steps_prepare.cpp
    void open_image();
    void on_image_opened(image::OpenImage opened, double cached);
    Result<> choose_backend_of(const image::OpenImage& image, double cached);
    void check_unit();
    void on_unit_read(const UnitState& unit);
    void create_session();
    void on_session_created(Result<CreatedSession> created);
    void add_shares();
    void write_drop_in_step();
    void write_settings(bool with_snapshots);
    void write_ticket();

    // restore_steps_rootfs.cpp
    void start_rootfs();
    const image::RemoteFile* remote_base() const;
    void release_old_base();
    void serve_base();
    void on_base_served(const Result<std::string>& socket);
    void write_rootfs(const RootfsBase& base);
    void on_rootfs_started(const Result<std::string>& result);
    void attach_rootfs();
    const std::string& overlay_drive() const;

    // restore_steps_space.cpp
    void check_space();
    void admit_next();
    void on_admitted(const std::string& path, Result<guard::Admission> admitted);

    // restore_steps_run.cpp
    void start_unit();
    void on_start_job(Result<std::string> result);
    void explain_failed_start(const std::string& result);
    void await_api();
    void load_snapshot();
    void check_tracking();
    void await_tracking();
    void resume_vm();
    void await_serving();
    void confirm_unit();

    // restore_end.cpp
    void failed(Failure failure);
    void look_for_cause();
    void conclude();
    void undo(Failure failure);
    void on_undone(const Result<>& undone, const Failure& failure);
    void succeed(bool adopted);
    void recover_by_vmm();
    void recover_by_session();
    bool make(bool Made::* part);
    void arm(Microseconds delay, std::function<void()> then);
    LogFields failure_fields(const Failure& failure) const;

    Instance& instance_;
    RestoreOptions options_;
    Plan plan_;
    bool advancing_ = false;
    bool ending_ = false; // the first failure is in
    bool unit_started_ = false;
    image::OpenImage image_files_; // open from the preflight to the start of the unit
    Fd remote_memory_;             // of an image whose memory is a file somewhere else
    Fd remote_rootfs_;             // as well
    Backend chosen_ = Backend::Auto;
    std::string pager_socket_;
    unsigned session_attempts_ = 0;
    unsigned base_attempts_ = 0;
    bool shares_cleared_ = false;
    unsigned api_attempts_ = 0;
    PagerSession session_;
    std::map<Step, EventSource> limits_;
    std::vector<std::string> unasked_;       // paths whose file systems must have room
    std::vector<guard::Admission> promises_; // space that is ours while the job is at work

    // What the first failure was, and what other witnesses say until it is decided.
    std::optional<Failure> first_;
    std::optional<UnitState> unit_end_;
    std::optional<SessionFailure> session_failure_;
    bool session_asked_ = false;

    EventSource timer_;
    SystemdHandle systemd_;
    SystemdHandle rootfs_;
    PagerHandle pager_;
    PagerHandle base_;
    SharesHandle shares_;
    DiskHandle disk_;
    HttpHandle http_;
    guard::GuardHandle guard_;
    std::unique_ptr<Teardown> teardown_;
};

} // namespace thaw::restore
