// SPDX-License-Identifier: MIT
#include "restore_job.hpp"

#include "api/restore1.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"

namespace thaw::restore {

namespace error = restore1::error;

RestoreJob::RestoreJob(
    const Context& context, const JobRecord& record, Instance& instance, RestoreOptions options
)
    : Job(context, record, instance.name(), instance.record().image), instance_(instance),
      options_(std::move(options)) {}

void RestoreJob::start() {
    log_event(
        LogLevel::Info, message_id::kRestoreStarted, log_fields(), "restoring {} from image {}",
        instance(), image()
    );
    advance();
}

void RestoreJob::advance() {
    if (std::exchange(advancing_, true)) return;
    for (bool moved = true; moved && !ending_;) {
        moved = false;
        for (const auto step : plan_.ready()) {
            if (ending_) break;
            moved = true;
            plan_.start(step);
            publish_plan();
            run(step);
        }
    }
    advancing_ = false;
    if (ending_) return;
    publish_plan();
    if (plan_.complete()) succeed(false);
}

void RestoreJob::publish_plan() {
    set_progress(plan_.progress());
    if (plan_.complete()) return;
    if (plan_.state() != state()) set_state(plan_.state());
    set_stage(plan_.stage());
}

void RestoreJob::run(Step step) {
    if (const auto limit = step_spec(step).limit; limit != 0) {
        auto timer = context().loop.add_timer(
            limit, [this, step] { on_limit(step); }, "restore-step", priority::kTimer
        );
        THAW_INVARIANT(timer.has_value());
        limits_[step] = std::move(*timer);
    }
    switch (step) {
    case Step::OpenImage:
        return open_image();
    case Step::CheckUnit:
        return check_unit();
    case Step::CheckSpace:
        return check_space();
    case Step::CreateSession:
        return create_session();
    case Step::AddShares:
        return add_shares();
    case Step::WriteDropIn:
        return write_drop_in_step();
    case Step::StartRootfs:
        return start_rootfs();
    case Step::AttachRootfs:
        return attach_rootfs();
    case Step::WriteTicket:
        return write_ticket();
    case Step::StartUnit:
        return start_unit();
    case Step::AwaitApi:
        return await_api();
    case Step::LoadSnapshot:
        return load_snapshot();
    case Step::CheckTracking:
        return check_tracking();
    case Step::ResumeVm:
        return resume_vm();
    case Step::AwaitServing:
        return await_serving();
    case Step::ConfirmUnit:
        return confirm_unit();
    }
}

void RestoreJob::finished(Step step) {
    limits_.erase(step);
    plan_.finish(step);
    advance();
}

void RestoreJob::on_limit(Step step) {
    std::string_view name = error::kUnitStartFailed;
    std::string text = "systemd did not answer in time";
    if (step == Step::CreateSession) {
        name = error::kPagerUnavailable;
        text = "the pager did not answer in time";
    } else if (step == Step::AddShares) {
        name = error::kSharesUnavailable;
        text = "the share supervisor did not answer in time";
    } else if (step == Step::StartUnit) {
        text = "the VM's unit did not start in time";
    } else if (step == Step::AwaitApi) {
        name = error::kVmmUnreachable;
        text = "the VMM's API socket did not answer in time";
    } else if (step == Step::ResumeVm) {
        name = error::kResumeFailed;
        text = "the VMM did not resume the VM in time";
    } else if (step == Step::AwaitServing) {
        name = error::kProofFailed;
        text = fmt::format(
            "the VMM loaded the snapshot, but did not hand its memory to the pager: the session is "
            "{}",
            session_.state.empty() ? "unknown" : session_.state
        );
    } else if (step == Step::ConfirmUnit) {
        name = error::kProofFailed;
    }
    failed({.name = name, .message = std::move(text), .timed_out = true});
}

void RestoreJob::on_unit(const UnitState& unit) {
    if (!unit.is_gone()) return;
    unit_end_ = unit;
    if (ending_) {
        if (first_) look_for_cause();
        return;
    }
    if (unit_started_) failed({.name = error::kVmmDied, .message = describe_unit_end(unit)});
}

void RestoreJob::on_session(const PagerSession& session) {
    session_ = session;
    if (ending_) return;
    if (session.has_failed()) {
        session_failure_ = SessionFailure{session.error_name, session.error_message};
        failed(session_failure(*session_failure_));
        return;
    }
    if (!session.present) {
        failed({.name = error::kPagerFailed, .message = "the pager session is gone"});
        return;
    }
    if (session.serves() && plan_.is_running(Step::AwaitServing)) finished(Step::AwaitServing);
}

void RestoreJob::on_share_lost(const LostShare& share) {
    if (ending_) return;
    failed(
        {.name = error::kShareFailed,
         .message = fmt::format("share \"{}\": {}", share.tag, share.message)}
    );
}

Result<> RestoreJob::cancel() {
    if (ending_ || is_final(state()))
        return fail_named(
            error::kJobNotCancelable, EALREADY, "job {} is {} already", id(),
            kJobStateNames.name(state())
        );
    failed({.name = error::kCanceled, .message = "canceled on request"});
    return {};
}

} // namespace thaw::restore
