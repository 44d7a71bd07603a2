// SPDX-License-Identifier: MIT
// How a restore ends: the cause of a failure, the undoing, success, and the end of one that a
// restart of the manager interrupted.
#include "api/restore1.hpp"
#include "core/names.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"
#include "reserve/hint.hpp"
#include "restore_job.hpp"

namespace thaw::restore {

namespace error = restore1::error;

namespace {

// Added to a failure only: witnesses arrive within milliseconds.
constexpr Microseconds kCauseLimit = kUsecPerSec;
constexpr Microseconds kRecoverLimit = 5 * kUsecPerSec;
constexpr Microseconds kRecoverApiLimit = 2 * kUsecPerSec;

JobState final_state(const Failure& failure) {
    if (failure.name == error::kCanceled) return JobState::Canceled;
    return failure.timed_out ? JobState::Timeout : JobState::Failed;
}

} // namespace

void RestoreJob::arm(Microseconds delay, std::function<void()> then) {
    auto timer = context().loop.add_timer(delay, std::move(then), "restore-job", priority::kTimer);
    THAW_INVARIANT(timer.has_value());
    timer_ = std::move(*timer);
}

// Said on disk before it is done, so that a restart knows what to undo. False: the job has failed.
bool RestoreJob::make(bool Made::* part) {
    auto made = instance_.record().made;
    made.*part = true;
    auto saved = instance_.set_made(made);
    if (!saved)
        failed(file_failure(reserve::with_release_hint(saved.error(), paths::kRestoreRuntime)));
    return saved.has_value();
}

void RestoreJob::failed(Failure failure) {
    if (std::exchange(ending_, true)) return;
    limits_.clear();
    timer_.reset();
    systemd_.reset();
    http_.reset();
    // An answer that is on its way names a session that the undoing closes.
    pager_.reset();
    shares_.reset();
    rootfs_.reset();
    base_.reset();
    guard_.reset();
    disk_.reset();
    first_ = std::move(failure);
    const bool has_witnesses = unit_started_ && first_->name != error::kCanceled;
    if (!has_witnesses) return conclude();
    arm(kCauseLimit, [this] { conclude(); });
    session_asked_ = !instance_.record().made.session || session_failure_.has_value();
    if (!session_asked_)
        pager_ =
            context().pager.read_session(instance(), [this](const Result<PagerSession>& session) {
                session_asked_ = true;
                if (session && session->has_failed())
                    session_failure_ = SessionFailure{session->error_name, session->error_message};
                look_for_cause();
            });
    look_for_cause();
}

void RestoreJob::look_for_cause() {
    if (!first_ || !session_asked_) return;
    if (wants_unit_end(*first_, session_failure_) && !unit_end_) return;
    conclude();
}

void RestoreJob::conclude() {
    if (!first_) return;
    timer_.reset();
    const auto cause = decide(*first_, unit_end_, session_failure_);
    first_.reset();
    undo(cause);
}

void RestoreJob::undo(Failure failure) {
    if (state() != JobState::Undoing) set_state(JobState::Undoing);
    set_stage("undo");
    instance_.stop_watching();
    if (instance_.state() != InstanceState::Stopping) instance_.set_state(InstanceState::Stopping);
    teardown_ = std::make_unique<Teardown>(
        context(), instance(), instance_.record().made,
        [this, failure = std::move(failure)](const Result<>& undone) { on_undone(undone, failure); }
    );
}

LogFields RestoreJob::failure_fields(const Failure& failure) const {
    auto fields = log_fields();
    fields.push_back({"THAW_ERROR", std::string(failure.name)});
    return fields;
}

void RestoreJob::on_undone(const Result<>& undone, const Failure& failure) {
    promises_.clear();
    image_files_ = {};
    if (!undone) {
        const Failure stop{
            .name = error::kStopFailed,
            .message = fmt::format(
                "{} (after {}: {})", undone.error().message(), failure.name, failure.message
            ),
        };
        log_event(
            LogLevel::Error, message_id::kStopFailed, failure_fields(stop),
            "{} cannot be stopped: {}", instance(), stop.message
        );
        context().manager.keep_stuck_instance(instance_);
        finish(JobState::Failed, &stop);
        return;
    }
    if (failure.name == error::kCanceled)
        log_event(
            LogLevel::Notice, message_id::kRestoreCanceled, failure_fields(failure),
            "restore of {} was canceled", instance()
        );
    else
        log_event(
            LogLevel::Error,
            failure.name == error::kManagerRestarted ? message_id::kRestoreInterrupted
                                                     : message_id::kRestoreFailed,
            failure_fields(failure), "restore of {} from image {} failed: {}: {}", instance(),
            image(), failure.name, failure.message
        );
    const auto state = final_state(failure);
    context().manager.remove_instance(instance_, kJobStateNames.name(state));
    finish(state, &failure);
}

void RestoreJob::succeed(bool adopted) {
    ending_ = true;
    limits_.clear();
    timer_.reset();
    promises_.clear();
    // An ended job stays readable for a while; an image that is removed meanwhile shall be gone.
    image_files_ = {};
    if (!adopted) instance_.set_started(now_realtime());
    // In this order on disk: a VM that runs and whose job is not ended is proven once more, one
    // that is being restored by nobody would stay so for ever.
    if (instance_.state() == InstanceState::Restoring) instance_.set_state(InstanceState::Running);
    instance_.set_job(std::nullopt);
    log_event(
        LogLevel::Info, adopted ? message_id::kInstanceAdopted : message_id::kRestoreDone,
        log_fields(), "{} runs from image {} (memory backend {}{})", instance(), image(),
        kBackendNames.name(instance_.record().backend),
        adopted ? "; found again after a restart" : ""
    );
    finish(JobState::Done);
}

// ---- after a restart of the manager ---------------------------------------------------------

void RestoreJob::recover() {
    const auto& record = instance_.record();
    const Failure interrupted{
        .name = error::kManagerRestarted,
        .message = fmt::format(
            "the restore manager was restarted while the job was {}", kJobStateNames.name(state())
        ),
    };
    if (record.backend != Backend::Auto) set_backend(record.backend, record.backend_reason);
    if (state() < JobState::Loading || state() > JobState::Proving) return failed(interrupted);
    arm(kRecoverLimit, [this, interrupted] { failed(interrupted); });
    systemd_ =
        context().systemd.read_unit(instance_.unit(), [this, interrupted](Result<UnitState> unit) {
            if (unit && unit->active_state == "active")
                recover_by_vmm();
            else
                failed(interrupted);
        });
}

// Whether the snapshot was loaded and resumed, only the VMM knows.
void RestoreJob::recover_by_vmm() {
    const HttpRequest request{
        .socket_path = paths::vm_api_socket(instance()),
        .method = "GET",
        .path = "/",
        .body = {},
        .timeout = kRecoverApiLimit,
    };
    http_ = context().vmm.send(request, [this](const Result<HttpReply>& reply) {
        if (!reply || !says_running(*reply))
            return failed(
                {.name = error::kManagerRestarted,
                 .message = "the restore manager was restarted, and the VM is not resumed"}
            );
        if (instance_.record().backend == Backend::Uffd) return recover_by_session();
        instance_.watch_unit();
        if (instance_.record().made.rootfs) instance_.watch_rootfs();
        succeed(true);
    });
}

void RestoreJob::recover_by_session() {
    pager_ = context().pager.read_session(instance(), [this](const Result<PagerSession>& session) {
        if (!session || !session->serves())
            return failed(
                {.name = error::kManagerRestarted,
                 .message = "the restore manager was restarted, and the pager does not serve the VM"
                }
            );
        instance_.watch_unit();
        instance_.watch_session();
        if (instance_.record().made.rootfs) instance_.watch_rootfs();
        succeed(true);
    });
}

} // namespace thaw::restore
