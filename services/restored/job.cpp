// SPDX-License-Identifier: MIT
#include "job.hpp"

#include "api/restore1.hpp"
#include "core/text.hpp"
#include "manager.hpp"
#include "vm_fields.hpp"

namespace thaw::restore {

std::uint32_t job_id_of_path(std::string_view path) {
    const auto prefix = fmt::format("{}/_", restore1::kJobPrefix);
    if (!path.starts_with(prefix)) return 0;
    const auto id = parse_unsigned(path.substr(prefix.size()), UINT32_MAX);
    return static_cast<std::uint32_t>(id.value_or(0));
}

Job::Job(const Context& context, const JobRecord& record, std::string instance, std::string image)
    : context_(context), record_(record),
      path_(fmt::format("{}/_{}", restore1::kJobPrefix, record.id)), instance_(std::move(instance)),
      image_(std::move(image)) {}

std::string_view Job::result() const {
    return is_final(record_.state) ? kJobStateNames.name(record_.state) : std::string_view{};
}

void Job::set_state(JobState state) {
    THAW_INVARIANT(may_follow(record_.state, state));
    record_.state = state;
    context_.manager.job_changed(*this);
    log_debug(log_fields(), "job {} of {}: {}", record_.id, instance_, kJobStateNames.name(state));
    changed({"State"});
}

void Job::set_stage(std::string_view stage) {
    if (stage_ == stage) return;
    stage_ = stage;
    changed({"Stage"});
}

void Job::set_backend(Backend backend, std::string_view reason) {
    backend_ = kBackendNames.name(backend);
    backend_reason_ = reason;
    changed({"Backend", "BackendReason"});
}

void Job::set_cause(const Failure& cause) {
    error_name_ = cause.name;
    error_message_ = cause.message;
    changed({"ErrorName", "ErrorMessage"});
}

void Job::finish(JobState state, const Failure* failure) {
    THAW_INVARIANT(is_final(state) && (state == JobState::Done) == (failure == nullptr));
    if (failure != nullptr)
        set_cause(*failure);
    else
        progress_ = 1;
    set_stage("");
    set_state(state);
    if (!outcome_.empty()) changed({"Outcome"});
    changed({"Result"});
    context_.manager.job_finished(*this);
    if (const auto ended = std::exchange(ended_, nullptr)) ended();
}

LogFields Job::log_fields() const {
    auto fields = vm_fields(instance_);
    fields.push_back({"THAW_JOB", std::to_string(record_.id)});
    fields.push_back({"THAW_IMAGE", image_});
    return fields;
}

void FinishedJob::start() {
    finish(JobState::Done);
}

Result<> FinishedJob::cancel() {
    return fail_named(
        restore1::error::kJobNotCancelable, EALREADY, "job {} has nothing to cancel", id()
    );
}

} // namespace thaw::restore
