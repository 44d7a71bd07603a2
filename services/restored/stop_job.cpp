// SPDX-License-Identifier: MIT
#include "stop_job.hpp"

#include "api/restore1.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"

namespace thaw::restore {

StopJob::StopJob(
    const Context& context, const JobRecord& record, Instance& instance,
    std::optional<Failure> cause
)
    : Job(context, record, instance.name(), instance.record().image), instance_(instance),
      cause_(std::move(cause)) {}

void StopJob::start() {
    if (state() != JobState::Undoing) set_state(JobState::Undoing);
    set_stage("stop");
    if (cause_) set_cause(*cause_);
    instance_.stop_watching();
    if (instance_.state() != InstanceState::Stopping) instance_.set_state(InstanceState::Stopping);
    auto made = instance_.record().made;
    made.unit = true; // whatever the record says: nothing is taken from under a unit that runs
    teardown_ =
        std::make_unique<Teardown>(context(), instance(), made, [this](const Result<>& undone) {
            on_undone(undone);
        });
}

Result<> StopJob::cancel() {
    return fail_named(
        restore1::error::kJobNotCancelable, EALREADY, "{} is being stopped", instance()
    );
}

void StopJob::on_undone(const Result<>& undone) {
    if (!undone) {
        const Failure stop{
            .name = restore1::error::kStopFailed, .message = undone.error().message()
        };
        log_event(
            LogLevel::Error, message_id::kStopFailed, log_fields(), "{} cannot be stopped: {}",
            instance(), stop.message
        );
        context().manager.keep_stuck_instance(instance_);
        finish(JobState::Failed, &stop);
        return;
    }
    if (cause_) {
        auto fields = log_fields();
        fields.push_back({"THAW_ERROR", std::string(cause_->name)});
        log_event(
            LogLevel::Error, message_id::kLossStopped, fields, "{} was stopped: {}", instance(),
            cause_->message
        );
    } else {
        log_event(
            LogLevel::Info, message_id::kStopDone, log_fields(), "{} was stopped on request",
            instance()
        );
    }
    context().manager.remove_instance(instance_, "stopped");
    finish(JobState::Done);
}

} // namespace thaw::restore
