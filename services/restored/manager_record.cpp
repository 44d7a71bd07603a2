// SPDX-License-Identifier: MIT
// Recordings: who may, what is possible, and the VMs that are restored only to be watched.
#include "api/restore1.hpp"
#include "bus/errors.hpp"
#include "bus/flags.hpp"
#include "bus/properties.hpp"
#include "core/names.hpp"
#include "manager.hpp"
#include "stop_job.hpp"

#include <algorithm>

namespace thaw::restore {

namespace error = restore1::error;

namespace {

constexpr Microseconds kLongestRecording = 3600 * kUsecPerSec;

Result<> read_record_option(BusMessage& message, std::string_view key, RecordRequest& request) {
    if (key == "Runs") {
        std::uint32_t runs = 0;
        THAW_CHECK(message.read("v", "u", &runs));
        if (runs == 0 || runs > kMostRecordRuns)
            return fail(EINVAL, "must be between 1 and {}", kMostRecordRuns);
        request.runs = runs;
        return {};
    }
    if (key == "RecordMaxUSec") {
        THAW_CHECK(message.read("v", "t", &request.limit));
        if (request.limit == 0) return fail(EINVAL, "must be more than nothing");
        request.limit = std::min(request.limit, kLongestRecording);
        return {};
    }
    if (key == "AllowWrites") {
        int on = 0;
        THAW_CHECK(message.read("v", "b", &on));
        request.allow_writes = on != 0;
        return {};
    }
    return fail(EINVAL, "unknown option");
}

Result<RecordRequest> read_record_request(BusMessage& message, const Config& config) {
    RecordRequest request{.limit = config.record_max};
    THAW_CHECK(for_each_property(message, [&](std::string_view key) -> Result<> {
        if (auto done = read_record_option(message, key, request); !done)
            return std::unexpected(
                std::move(done).error().with_context(key).with_bus_name(kErrorInvalidArgs)
            );
        return {};
    }));
    return request;
}

} // namespace

Result<> Manager::method_record(BusMessage message) {
    const char* image = nullptr;
    THAW_CHECK(message.read("s", &image));
    THAW_TRY(const auto request, read_record_request(message, config_));
    THAW_CHECK(read_flags(message));
    if (!is_valid_image_name(image))
        return fail_named(error::kInvalidName, EINVAL, "\"{}\" is no name of an image", image);
    THAW_TRY(const auto uid, message.sender_uid());
    authorize(
        message, restore1::kActionRecord, "",
        [this, message, name = std::string(image), request, uid]() mutable {
            accept_record(message, name, request, uid);
        }
    );
    return {};
}

Result<> Manager::may_record(const std::string& image) const {
    if (!policy_.recording)
        return fail_named(error::kRecordingDisabled, EPERM, "recording is switched off by policy");
    std::size_t at_work = 0;
    for (const auto& [id, job] : jobs_) {
        if (is_final(job->state())) continue;
        if (job->kind() == JobKind::Record && job->image() == image)
            return fail_named(error::kImageBusy, EBUSY, "job {} records {} already", id, image);
        ++at_work;
    }
    if (at_work >= config_.max_jobs)
        return fail_named(error::kTooManyJobs, EAGAIN, "{} jobs are at work or waiting", at_work);
    return {};
}

// Any name that is free: what kind of VM it is, its record says.
std::string Manager::recording_name(std::uint32_t job) const {
    auto name = fmt::format("record-{}", job);
    for (unsigned suffix = 2; instances_.contains(name); ++suffix)
        name = fmt::format("record-{}-{}", job, suffix);
    return name;
}

void Manager::accept_record(
    BusMessage& message, const std::string& image, const RecordRequest& request, uid_t uid
) {
    if (auto possible = may_record(image); !possible) return message.reply_error(possible.error());
    const auto job = new_job(JobKind::Record, uid);
    answer_with_job(
        message,
        add_job(std::make_unique<RecordJob>(context_, job, recording_name(job.id), image, request))
    );
}

// ---- snapshots ------------------------------------------------------------------------------

Result<> Manager::method_snapshot(BusMessage message) {
    const char *name = nullptr, *image = nullptr;
    THAW_CHECK(message.read("ss", &name, &image));
    auto kind = SnapshotJob::Kind::Full;
    THAW_CHECK(for_each_property(message, [&](std::string_view key) -> Result<> {
        if (key != "Diff") return fail_named(kErrorInvalidArgs, EINVAL, "unknown option {}", key);
        int on = 0;
        if (auto read = message.read("v", "b", &on); !read)
            return std::unexpected(
                std::move(read).error().with_context(key).with_bus_name(kErrorInvalidArgs)
            );
        if (on != 0) kind = SnapshotJob::Kind::Difference;
        return {};
    }));
    THAW_CHECK(read_flags(message));
    if (!is_valid_image_name(image))
        return fail_named(error::kInvalidName, EINVAL, "\"{}\" is no name of an image", image);
    THAW_TRY(const auto uid, message.sender_uid());
    authorize(
        message, restore1::kActionSnapshot, name,
        [this, message, vm = std::string(name), to = std::string(image), kind, uid]() mutable {
            accept_snapshot(message, vm, to, kind, uid);
        }
    );
    return {};
}

void Manager::accept_snapshot(
    BusMessage& message, const std::string& name, const std::string& image, SnapshotJob::Kind kind,
    uid_t uid
) {
    auto* instance = find_instance(name);
    if (instance == nullptr)
        return message.reply_error(
            Error(error::kNoSuchInstance, ENXIO, fmt::format("no VM \"{}\" is on the books", name))
        );
    if (!instance->is_live() || instance->has_job() || instance->is_cleaning())
        return message.reply_error(Error(
            error::kInstanceBusy, EBUSY,
            fmt::format("{} is {}", name, kInstanceStateNames.name(instance->state()))
        ));
    const auto record = new_job(JobKind::Snapshot, uid);
    instance->set_job(record);
    answer_with_job(
        message, add_job(std::make_unique<SnapshotJob>(context_, record, *instance, image, kind))
    );
}

// ---- VMs that are only watched --------------------------------------------------------------

Result<Job*>
Manager::restore_for_recording(const std::string& name, const std::string& image, uid_t uid) {
    if (find_instance(name) != nullptr) return fail(EEXIST, "a VM {} is on the books", name);
    const auto job = new_job(JobKind::Restore, uid);
    const Record record{
        .name = name,
        .image = image,
        .owner = uid,
        .type = InstanceType::Recording,
        .restored_by = job.id,
        .started = job.started,
        .job = job,
    };
    if (auto saved = records_.save(record); !saved) {
        (void)records_.remove(name);
        return std::unexpected(std::move(saved).error());
    }
    const RestoreOptions options{
        .backend = Backend::Uffd,
        .prefetch = false,
        .load_timeout = config_.load_timeout,
        .recording = true,
    };
    return &add_job(std::make_unique<RestoreJob>(context_, job, add_instance(record), options));
}

Job* Manager::stop_recording(const std::string& name) {
    auto* instance = find_instance(name);
    if (instance == nullptr || instance->is_cleaning()) return nullptr;
    if (Job* job = job_of(*instance)) return job;
    return &stop_instance(*instance, instance->record().owner);
}

} // namespace thaw::restore
