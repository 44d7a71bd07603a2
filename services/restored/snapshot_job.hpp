// SPDX-License-Identifier: MIT
#pragma once

// An image of a VM that runs on. Its memory is loaded first (a VMM that writes out a half-restored
// VM would fault every missing page in, one by one, while the guest stands still); then the VM is
// paused, the VMM writes its state and memory into the VM's own folder, and the VM is resumed. What
// the VMM wrote is copied and sealed from a thread. Whatever fails: the VM runs on as it did, and
// nothing of the image is left.
//
// A difference is of the pages that the pager has noted since the VM was restored, laid over the
// image that it was restored from. Their bytes come from the VMM: from a Diff snapshot, for which a
// VMM that keeps no log of its own writes out what is resident (so nothing has to be loaded before,
// and a page that was given back is absent and zero); where the VMM has none, or where pages may be
// swapped out and so be absent without being zero, from a Full one.

#include "event/background.hpp"
#include "image/page_bitmap.hpp"
#include "instance.hpp"
#include "job.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::restore {

class SnapshotJob : public Job {
public:
    enum class Kind { Full, Difference };
    // `instance` outlives the job's work.
    SnapshotJob(
        const Context& context, const JobRecord& record, Instance& instance, std::string new_image,
        Kind kind
    );
    void start() override;
    // In place of start() after a restart of the manager: a VM that was left paused is resumed.
    void recover();
    Result<> cancel() override;
    void on_unit(const UnitState& unit) override;
    void on_session(const PagerSession& session) override;

private:
    struct Found {
        bool exists = false; // the new image
        bool has_folder = false;
        image::Manifest manifest; // of the image that the VM came from
    };
    void on_found(Result<Found> found);
    void reserve();
    void admit_next();
    // ---- every page in
    void load_all();
    void look_at_progress();
    // ---- the VM stands still from pause() to resume()
    void pause();
    void create();
    void resume();
    // ---- differences (snapshot_diff.cpp)
    void check_tracked();
    std::optional<Failure> judge_session(const PagerSession& session) const;
    void quiesce();
    void take_dirty();
    bool falls_back();
    // The VM runs again: so may what the pager does beside it.
    void release_session();
    void after_release();
    // ---- the image
    void prepare();
    void seal();
    void on_sealed(const Result<>& sealed);
    void fail_with(Failure failure);
    void conclude();
    void report();
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
    Kind kind_;
    bool by_pager_ = false;
    bool resident_only_ = false; // a Diff snapshot is asked of the VMM
    bool again_ = false;         // it has none: with a Full one, then
    bool quiesced_ = false;      // the session, or it may be
    unsigned release_attempts_ = 0;
    image::PageBitmap dirty_;
    bool running_ = false; // it ran when we came: it is resumed
    bool paused_ = false;
    bool concluding_ = false;
    bool ended_ = false; // the VM is gone
    // News that came meanwhile: the manager's once we are done.
    std::optional<UnitState> end_;
    std::optional<PagerSession> session_;
    Microseconds paused_at_ = 0;
    Microseconds stood_still_ = 0;
    Microseconds load_deadline_ = 0;
    std::vector<std::string> unasked_; // folders for which room is still to be asked
    std::vector<guard::Admission> room_;
    EventSource timer_;
    PagerHandle pager_;
    HttpHandle http_;
    guard::GuardHandle guard_;
    DiskHandle disk_;
    std::unique_ptr<BackgroundTask> sealing_;
    metrics::DirtyThrottle::Writing writes_;
};

} // namespace thaw::restore
