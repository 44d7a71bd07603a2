// SPDX-License-Identifier: MIT
#include "snapshot_job.hpp"

#include "api/restore1.hpp"
#include "config/json.hpp"
#include "core/names.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"
#include "no_space.hpp"
#include "snapshot_folder.hpp"
#include "vmm_requests.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace thaw::restore {

namespace error = restore1::error;

namespace {

constexpr Microseconds kPauseLimit = 10 * kUsecPerSec;
constexpr Microseconds kCreateLimit = 120 * kUsecPerSec;
constexpr Microseconds kLoadTick = 100 * kUsecPerMsec;
constexpr Microseconds kLoadLimit = 600 * kUsecPerSec;
constexpr const char* kState = "vmstate";
constexpr const char* kMemory = "memory";
// Shares of the progress: loading, capturing, sealing.
constexpr double kLoaded = 0.4;
constexpr double kCaptured = 0.6;

} // namespace

SnapshotJob::SnapshotJob(
    const Context& context, const JobRecord& record, Instance& instance, std::string new_image,
    Kind kind
)
    : Job(context, record, instance.name(), instance.record().image), instance_(instance),
      new_image_(std::move(new_image)), kind_(kind) {}

void SnapshotJob::arm(Microseconds delay, std::function<void()> then) {
    auto timer = context().loop.add_timer(delay, std::move(then), "snapshot-job", priority::kTimer);
    THAW_INVARIANT(timer.has_value());
    timer_ = std::move(*timer);
}

HttpHandle SnapshotJob::send(
    const char* method, const char* path, std::string body, Microseconds limit,
    std::function<void(const Result<HttpReply>&)> handler
) {
    return context().vmm.send(
        {.socket_path = paths::vm_api_socket(instance()),
         .method = method,
         .path = path,
         .body = std::move(body),
         .timeout = limit},
        std::move(handler)
    );
}

void SnapshotJob::start() {
    set_state(JobState::Preflight);
    running_ = instance_.state() == InstanceState::Running;
    by_pager_ = instance_.record().backend == Backend::Uffd;
    disk_ = context().disk.ask<Found>(
        image_name(image()),
        [images = context().images, name = image(), made = new_image_,
         vm = instance()]() -> Result<Found> {
            Found found;
            std::error_code code;
            found.exists = std::filesystem::exists(fmt::format("{}/{}", images.root(), made), code);
            found.has_folder = std::filesystem::exists(snapshot_folder(vm), code);
            if (found.exists) return found;
            THAW_TRY(auto opened, images.open(name, image::Store::Remote::Allow));
            found.manifest = std::move(opened.manifest);
            found.manifest.source.reset(); // the new image has its memory here
            return found;
        },
        [this](Result<Found> found) { on_found(std::move(found)); }
    );
}

void SnapshotJob::on_found(Result<Found> found) {
    if (!found) return fail_with(image_failure(found.error()));
    if (found->exists)
        return fail_with(
            {.name = error::kImageExists, .message = fmt::format("image {} exists", new_image_)}
        );
    // Drives and paths are those of the image that the VM came from.
    manifest_ = std::move(found->manifest);
    if (!found->has_folder)
        return fail_with(
            {.name = error::kSnapshotFailed,
             .message = "the VM was restored without a folder for snapshots"}
        );
    set_state(JobState::Reserving);
    reserve();
}

// What the VMM writes and the image lie apart, on one file system or on two.
void SnapshotJob::reserve() {
    unasked_ = {context().images.root(), paths::kSnapshots};
    admit_next();
}

void SnapshotJob::admit_next() {
    if (unasked_.empty()) {
        set_state(JobState::Preparing);
        return prepare();
    }
    const auto path = std::move(unasked_.back());
    unasked_.pop_back();
    guard_ = context().guard.admit(
        path, manifest_.memory_size, fmt::format("snapshot of {}", instance()),
        [this, path](Result<guard::Admission> admitted) {
            if (!admitted) return fail_with(no_space(admitted.error(), path));
            room_.push_back(std::move(*admitted));
            admit_next();
        }
    );
}

void SnapshotJob::prepare() {
    if (kind_ == Kind::Difference)
        check_tracked();
    else if (by_pager_)
        load_all();
    else
        pause();
}

// ---- every page in --------------------------------------------------------------------------

void SnapshotJob::load_all() {
    set_stage("load-memory");
    load_deadline_ = now_monotonic() + kLoadLimit;
    pager_ = context().pager.change_session(instance(), "Complete", [this](const Result<>& done) {
        if (!done) return fail_with(pager_failure(done.error()));
        look_at_progress();
    });
}

void SnapshotJob::look_at_progress() {
    pager_ = context().pager.read_session(instance(), [this](const Result<PagerSession>& session) {
        // A session that is tracked stays with the pager.
        const bool loaded = session && session->present &&
                            (session->state == "complete" || session->populate == "done");
        if (loaded) return pause();
        const bool lost = session && (!session->present || session->has_failed() ||
                                      session->populate == "failed");
        if (lost || now_monotonic() > load_deadline_)
            return fail_with(
                {.name = error::kPagerFailed,
                 .message =
                     lost ? "the pager session failed" : "the VM's memory was not loaded in time",
                 .timed_out = !lost}
            );
        arm(kLoadTick, [this] { look_at_progress(); });
    });
}

// ---- the VM stands still --------------------------------------------------------------------

void SnapshotJob::pause() {
    if (state() != JobState::Capturing) set_state(JobState::Capturing);
    set_stage("pause");
    set_progress(kLoaded);
    const auto next = [this] { kind_ == Kind::Difference ? quiesce() : create(); };
    if (!running_) return next();
    paused_at_ = now_monotonic();
    // Before the answer: one that got lost may have been obeyed.
    paused_ = true;
    http_ = send(
        "PATCH", "/vm", vm_state_body(VmState::Paused), kPauseLimit,
        [this, next](const Result<HttpReply>& reply) {
            auto bad = judge_reply(reply, "pause", error::kSnapshotFailed, error::kVmmUnreachable);
            if (bad) return fail_with(std::move(*bad));
            next();
        }
    );
}

void SnapshotJob::create() {
    set_stage("write");
    const auto folder = snapshot_folder(instance());
    const auto body = json_dump(
        {{"snapshot_type", resident_only_ ? "Diff" : "Full"},
         {"snapshot_path", fmt::format("{}/{}", folder, kState)},
         {"mem_file_path", fmt::format("{}/{}", folder, kMemory)}}
    );
    http_ =
        send("PUT", "/snapshot/create", body, kCreateLimit, [this](const Result<HttpReply>& reply) {
            failure_ = judge_reply(
                reply, "create snapshot", error::kSnapshotFailed, error::kVmmUnreachable
            );
            if (!failure_ && kind_ == Kind::Difference) return take_dirty();
            if (falls_back()) failure_.reset();
            resume();
        });
}

// Always, and before anything else is said or done.
void SnapshotJob::resume() {
    if (!std::exchange(paused_, false) || ended_) return release_session();
    set_stage("resume");
    http_ = send(
        "PATCH", "/vm", vm_state_body(VmState::Resumed), kPauseLimit,
        [this](const Result<HttpReply>& reply) {
            stood_still_ = now_monotonic() - paused_at_;
            auto bad = judge_reply(reply, "resume", error::kResumeFailed, error::kResumeFailed);
            // The worse of two failures.
            if (bad) failure_ = std::move(*bad);
            release_session();
        }
    );
}

// ---- the image ------------------------------------------------------------------------------

void SnapshotJob::seal() {
    set_state(JobState::Sealing);
    set_stage("seal");
    set_progress(kCaptured);
    const auto folder = snapshot_folder(instance());
    image::Store::Source source{
        .state_path = fmt::format("{}/{}", folder, kState),
        .memory_path = fmt::format("{}/{}", folder, kMemory),
        // The VMM owns what it wrote, so the image gets copies.
        .move = false,
        .manifest = {},
    };
    source.manifest.vmm = manifest_.vmm;
    source.manifest.vmm_version = manifest_.vmm_version;
    source.manifest.page_size = manifest_.page_size;
    source.manifest.drives = manifest_.drives;
    source.manifest.vsock_path = manifest_.vsock_path;
    if (kind_ == Kind::Difference) {
        source.base = image();
        source.base_id = manifest_.id;
        source.present = dirty_;
    }
    auto started = BackgroundTask::start(
        context().loop,
        [images = context().images, name = new_image_,
         source](const BackgroundTask::Canceled& canceled) -> Result<> {
            THAW_CHECK(images.import(name, source, [&](std::uint64_t, std::uint64_t) {
                return !canceled;
            }));
            return {};
        },
        [this](const Result<>& sealed) { on_sealed(sealed); }
    );
    if (!started) return fail_with(file_failure(started.error()));
    sealing_ = std::move(*started);
    writes_ = context().throttle.begin(fmt::format("the snapshot of {}", instance()));
}

void SnapshotJob::on_sealed(const Result<>& sealed) {
    writes_ = {};
    if (!sealed) {
        const auto& cause = sealed.error();
        if (cause.code() == ECANCELED)
            return fail_with({.name = error::kCanceled, .message = "canceled on request"});
        return fail_with(
            is_no_space(cause) ? no_space(cause, context().images.root())
                               : Failure{.name = error::kSnapshotFailed, .message = cause.message()}
        );
    }
    conclude();
}

// ---- the end --------------------------------------------------------------------------------

void SnapshotJob::fail_with(Failure failure) {
    if (!failure_) failure_ = std::move(failure);
    timer_.reset();
    if (paused_) return resume();
    release_session();
}

void SnapshotJob::conclude() {
    concluding_ = true;
    // Before the capture nothing was written, and the disk may be what has failed.
    if (state() < JobState::Capturing) return report();
    disk_ = context().disk.ask<void>(
        snapshot_folder_name(instance()),
        [vm = instance(), gone = ended_] {
            return gone ? remove_snapshot_folder(vm) : empty_snapshot_folder(vm);
        },
        [this](const Result<>& done) {
            if (!done) log_warning(log_fields(), "ignoring: {}", done.error().message());
            report();
        }
    );
}

void SnapshotJob::report() {
    room_.clear(); // the job is shown for a while longer
    if (!failure_) {
        const auto size = kind_ == Kind::Full
                              ? format_size(manifest_.memory_size) + " of memory"
                              : fmt::format(
                                    "{} that may differ from image {}",
                                    format_size(dirty_.count() * image::kPageSize4K), image()
                                );
        set_outcome(fmt::format(
            "{}, the VM stood still for {}", size,
            format_timespan(stood_still_ / kUsecPerMsec * kUsecPerMsec)
        ));
        log_event(
            LogLevel::Info, message_id::kSnapshotDone, log_fields(),
            "image {} was made of {}; it stood still for {}", new_image_, instance(),
            format_timespan(stood_still_)
        );
        finish(JobState::Done);
        return hand_back();
    }
    const bool canceled = failure_->name == error::kCanceled;
    auto fields = log_fields();
    fields.push_back({"THAW_ERROR", std::string(failure_->name)});
    log_event(
        canceled ? LogLevel::Notice : LogLevel::Error, message_id::kSnapshotFailed, fields,
        "no image was made of {}: {}: {}", instance(), failure_->name, failure_->message
    );
    const auto failed = failure_->timed_out ? JobState::Timeout : JobState::Failed;
    const auto failure = *failure_;
    finish(canceled ? JobState::Canceled : failed, &failure);
    hand_back();
}

void SnapshotJob::hand_back() {
    if (end_)
        context().manager.unit_changed(instance_, *end_);
    else if (session_)
        context().manager.session_changed(instance_, *session_);
}

void SnapshotJob::on_unit(const UnitState& unit) {
    if (!unit.is_gone() || std::exchange(ended_, true)) return;
    end_ = unit;
    paused_ = false;
    // What was written is whole: the VM's end does not matter any more.
    if (state() == JobState::Sealing || concluding_) return;
    http_.reset();
    pager_.reset();
    guard_.reset();
    disk_.reset();
    fail_with({.name = error::kVmmDied, .message = describe_unit_end(unit)});
}

void SnapshotJob::on_session(const PagerSession& session) {
    session_ = session;
}

Result<> SnapshotJob::cancel() {
    if (is_final(state()) || state() == JobState::Capturing || concluding_)
        return fail_named(
            error::kJobNotCancelable, EALREADY, "job {} is {}", id(), kJobStateNames.name(state())
        );
    if (sealing_) {
        sealing_->cancel();
        return {};
    }
    pager_.reset();
    guard_.reset();
    disk_.reset();
    fail_with({.name = error::kCanceled, .message = "canceled on request"});
    return {};
}

void SnapshotJob::recover() {
    failure_ = Failure{
        .name = error::kManagerRestarted,
        .message = "the restore manager was restarted in the middle of the snapshot"
    };
    // Who wanted a difference has left the session quiet; to resume one that is not does no harm.
    quiesced_ = instance_.record().backend == Backend::Uffd;
    // Paused by somebody else before we came: that stays.
    if (instance_.state() != InstanceState::Running) return release_session();
    http_ = send("GET", "/", {}, kPauseLimit, [this](const Result<HttpReply>& reply) {
        if (reply && says_running(*reply)) return release_session();
        paused_ = true;
        paused_at_ = now_monotonic();
        resume();
    });
}

} // namespace thaw::restore
