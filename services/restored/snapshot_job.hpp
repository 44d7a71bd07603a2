// SPDX-License-Identifier: MIT
#pragma once

// An image of a VM that runs on. Its memory is loaded first (a VMM that writes out a half-restored
// VM would fault every missing page in, one by one, while the guest stands still); then the VM is
// paused, the VMM writes its state and memory into the VM's own folder, and the VM is resumed. What
// the VMM wrote is copied and sealed from a thread. Whatever fails: the VM runs on as it did, and
// nothing of the image is left.

#include "event/background.hpp"
#include "instance.hpp"
#include "job.hpp"

#include <memory>
#include <optional>
#include <string>

namespace thaw::restore {

// Where the VMM of that VM may write snapshots; made for each start of its unit.
std::string snapshot_folder(const std::string& vm);
Result<> make_snapshot_folder(const std::string& vm);
void remove_snapshot_folder(const std::string& vm);

class SnapshotJob : public Job {
public:
    // `instance` outlives the job's work.
    SnapshotJob(
        const Context& context, const JobRecord& record, Instance& instance, std::string new_image
    );
    void start() override;
    // In place of start() after a restart of the manager: a VM that was left paused is resumed.
    void recover();
    Result<> cancel() override;
    void on_unit(const UnitState& unit) override;
    void on_session(const PagerSession& session) override;

private:
    std::optional<Failure> check();
    void reserve();
    // ---- every page in
    void load_all();
    void look_at_progress();
    // ---- the VM stands still from pause() to resume()
    void pause();
    void create();
    void resume();
    // ---- the image
    void seal();
    void on_sealed(const Result<>& sealed);
    void fail_with(Failure failure);
    void conclude();
    void hand_back();
    void arm(Microseconds delay, std::function<void()> then);
    HttpHandle send(
        const char* method, const char* path, std::string body, Microseconds limit,
        std::function<void(const Result<HttpReply>&)> handler
    );

    Instance& instance_;
    std::string new_image_;
    image::Manifest manifest_;
    std::optional<Failure> failure_;
    bool by_pager_ = false;
    bool running_ = false; // it ran when we came: it is resumed
    bool paused_ = false;
    bool ended_ = false; // the VM is gone
    // News that came meanwhile: the manager's once we are done.
    std::optional<UnitState> end_;
    std::optional<PagerSession> session_;
    Microseconds paused_at_ = 0;
    Microseconds stood_still_ = 0;
    Microseconds load_deadline_ = 0;
    std::optional<guard::Admission> room_;
    EventSource timer_;
    PagerHandle pager_;
    HttpHandle http_;
    guard::GuardHandle guard_;
    std::unique_ptr<BackgroundTask> sealing_;
};

} // namespace thaw::restore
