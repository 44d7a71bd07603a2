// SPDX-License-Identifier: MIT
#include "record_job.hpp"

#include "api/restore1.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"
#include "no_space.hpp"
#include "record_files.hpp"

#include <sys/stat.h>

#include <algorithm>

namespace thaw::restore {

namespace error = restore1::error;

namespace {

// A broker that is being restarted comes back within a second.
constexpr unsigned kTakeAttempts = 5;
constexpr Microseconds kTakeRetry = 500 * kUsecPerMsec;

Failure failure_of(const Job& job) {
    for (const auto& known : restore1::kErrors)
        if (known.name == job.error_name())
            return {
                .name = known.name,
                .message = job.error_message(),
                .timed_out = job.state() == JobState::Timeout
            };
    return {.name = error::kPagerFailed, .message = job.error_message()};
}

} // namespace

struct RecordJob::Written {
    RecordedFiles files;
};

RecordJob::RecordJob(
    const Context& context, const JobRecord& record, std::string vm, std::string image,
    RecordRequest request
)
    : Job(context, record, std::move(vm), std::move(image)), request_(request) {}

void RecordJob::start() {
    set_state(JobState::Preflight);
    opening_ = context().disk.ask<image::Manifest>(
        image_name(image()),
        [images = context().images, name = image()]() -> Result<image::Manifest> {
            THAW_TRY(auto opened, images.open(name));
            return std::move(opened.manifest);
        },
        [this](Result<image::Manifest> opened) { on_opened(opened); }
    );
}

// What a restore would find out as well, and what only a recording minds.
void RecordJob::on_opened(const Result<image::Manifest>& opened) {
    if (!opened) return conclude(image_failure(opened.error()));
    page_size_ = opened->page_size;
    for (const auto& drive : opened->drives)
        if (!drive.read_only && drive.path.starts_with('/') && !request_.allow_writes)
            return conclude({
                .name = error::kDriveWritable,
                .message = fmt::format(
                    "the recording VM would write to drive {} ({})", drive.id, drive.path
                ),
            });
    set_state(JobState::Recording);
    begin_run();
}

void RecordJob::show(std::string_view what) {
    set_stage(
        request_.runs == 1 ? std::string(what)
                           : fmt::format("run {} of {}: {}", run_, request_.runs, what)
    );
}

void RecordJob::arm(Microseconds delay, std::function<void()> then) {
    auto timer = context().loop.add_timer(delay, std::move(then), "record-job", priority::kTimer);
    THAW_INVARIANT(timer.has_value());
    timer_ = std::move(*timer);
}

// ---- one run --------------------------------------------------------------------------------

void RecordJob::begin_run() {
    ++run_;
    show("restore");
    // The two halves of a run are its restore and its watching.
    set_progress(static_cast<double>(run_ - 1) / request_.runs);
    auto restoring = context().manager.restore_for_recording(instance(), image(), record().uid);
    if (!restoring) return conclude(file_failure(restoring.error()));
    child_ = *restoring;
    child_->on_end([this] { on_restored(); });
}

void RecordJob::on_restored() {
    const auto& restored = *std::exchange(child_, nullptr);
    // A restore that failed has undone what it made.
    if (restored.state() != JobState::Done) {
        failure_ = failure_of(restored);
        return on_stopped();
    }
    if (canceled_) return stop_vm();
    show("settle");
    began_ = now_monotonic();
    detector_.emplace(began_, request_.limit);
    arm(kSettleTick, [this] { sample(); });
}

void RecordJob::sample() {
    const auto* vm = context().manager.find_instance(instance());
    if (vm == nullptr || !vm->is_live() || vm->has_job())
        return end_run(
            Failure{.name = error::kVmmDied, .message = "the VM ended while it was recorded"}
        );
    pager_ = context().pager.read_number(instance(), "Faults", [this](Result<std::uint64_t> n) {
        on_sample(std::move(n));
    });
}

void RecordJob::on_sample(Result<std::uint64_t> faults) {
    if (!faults) log_debug(log_fields(), "read faults: {}", faults.error().message());
    if (!detector_) return;
    const auto now = now_monotonic();
    const auto verdict =
        detector_->observe(now, faults ? std::optional<std::uint64_t>(*faults) : std::nullopt);
    if (verdict == SettleDetector::Verdict::Waiting) {
        const auto part =
            std::min(1.0, static_cast<double>(now - began_) / static_cast<double>(request_.limit));
        set_progress((run_ - 1 + part) / request_.runs);
        return arm(kSettleTick, [this] { sample(); });
    }
    if (verdict == SettleDetector::Verdict::Idle)
        return end_run(Failure{
            .name = error::kNothingRecorded,
            .message =
                fmt::format("the VM touched nothing within {}", format_timespan(request_.limit))
        });
    recordings_.push_back(
        {.log = Fd(),
         .settled = verdict == SettleDetector::Verdict::Settled,
         .duration = now - began_}
    );
    show("collect");
    take(kTakeAttempts);
}

void RecordJob::take(unsigned attempts) {
    pager_ = context().pager.take_recording(instance(), [this, attempts](Result<Fd> log) {
        if (log) {
            recordings_.back().log = std::move(*log);
            return end_run(std::nullopt);
        }
        const auto failure = pager_failure(log.error());
        if (failure.name == error::kPagerUnavailable && attempts > 1)
            return arm(kTakeRetry, [this, attempts] { take(attempts - 1); });
        end_run(failure);
    });
}

void RecordJob::end_run(std::optional<Failure> failure) {
    timer_.reset();
    failure_ = std::move(failure);
    stop_vm();
}

void RecordJob::stop_vm() {
    show("stop");
    child_ = context().manager.stop_recording(instance());
    if (child_ == nullptr) return on_stopped();
    child_->on_end([this] {
        const auto& stopped = *std::exchange(child_, nullptr);
        if (stopped.state() != JobState::Done && !failure_) failure_ = failure_of(stopped);
        on_stopped();
    });
}

void RecordJob::on_stopped() {
    if (canceled_) return conclude({.name = error::kCanceled, .message = "canceled on request"});
    if (failure_) return conclude(*failure_);
    if (run_ < request_.runs) return begin_run();
    reserve();
}

// ---- the files ------------------------------------------------------------------------------

// The working set is at most as large as the first recording; its entries are four bytes.
void RecordJob::reserve() {
    set_state(JobState::Sealing);
    struct stat status{};
    (void)fstat(recordings_.front().log.get(), &status);
    const auto pages = static_cast<std::uint64_t>(status.st_size) / sizeof(std::uint32_t);
    guard_ = context().guard.admit(
        context().images.root(), pages * page_size_, fmt::format("recording of {}", image()),
        [this](Result<guard::Admission> admitted) {
            if (!admitted) return conclude(no_space(admitted.error(), context().images.root()));
            room_ = std::move(*admitted);
            write();
        }
    );
}

void RecordJob::write() {
    set_stage("write");
    written_ = std::make_shared<Written>();
    std::vector<Fd> logs;
    bool settled = true;
    for (auto& recording : recordings_) {
        logs.push_back(std::move(recording.log));
        settled = settled && recording.settled;
    }
    auto started = BackgroundTask::start(
        context().loop,
        [images = context().images, name = image(), settled, written = written_,
         logs = std::make_shared<std::vector<Fd>>(std::move(logs)
         )](const BackgroundTask::Canceled& canceled) -> Result<> {
            THAW_TRY(written->files, write_recording(images, name, *logs, settled, canceled));
            return {};
        },
        [this](Result<> done) { on_written(std::move(done)); }
    );
    if (!started) return conclude(file_failure(started.error()));
    writing_ = std::move(*started);
    writes_ = context().throttle.begin(fmt::format("the recording of {}", image()));
}

void RecordJob::on_written(Result<> written) {
    writes_ = {};
    room_.reset(); // the job is shown for a while longer
    if (!written) {
        const auto& cause = written.error();
        if (cause.code() == ENODATA)
            return conclude({.name = error::kNothingRecorded, .message = cause.message()});
        if (cause.code() == ECANCELED)
            return conclude({.name = error::kCanceled, .message = "canceled on request"});
        return conclude(
            is_no_space(cause) ? no_space(cause, context().images.root()) : image_failure(cause)
        );
    }
    const auto& files = written_->files;
    const auto text = fmt::format(
        "{} pages ({}) {}", files.pages, format_size(files.bytes),
        files.settled
            ? fmt::format(
                  "in {}",
                  format_timespan(recordings_.back().duration / kUsecPerMsec * kUsecPerMsec)
              )
            : "when the limit was reached: the VM had not come to rest"
    );
    log_event(
        files.settled ? LogLevel::Info : LogLevel::Notice, message_id::kRecordDone, log_fields(),
        "recorded image {}: {}", image(), text
    );
    set_outcome(text);
    finish(JobState::Done);
}

void RecordJob::conclude(const Failure& failure) {
    const bool canceled = failure.name == error::kCanceled;
    auto fields = log_fields();
    fields.push_back({"THAW_ERROR", std::string(failure.name)});
    log_event(
        canceled ? LogLevel::Notice : LogLevel::Error, message_id::kRecordFailed, fields,
        "image {} was not recorded: {}: {}", image(), failure.name, failure.message
    );
    const auto failed = failure.timed_out ? JobState::Timeout : JobState::Failed;
    finish(canceled ? JobState::Canceled : failed, &failure);
}

Result<> RecordJob::cancel() {
    if (canceled_ || is_final(state()))
        return fail_named(
            error::kJobNotCancelable, EALREADY, "job {} is {} already", id(),
            kJobStateNames.name(state())
        );
    canceled_ = true;
    if (state() == JobState::Queued) {
        conclude({.name = error::kCanceled, .message = "canceled on request"});
    } else if (writing_) {
        writing_->cancel();
    } else if (child_ != nullptr) {
        // A stop runs to its end; a restore is undone.
        (void)child_->cancel();
    } else {
        opening_.reset();
        pager_.reset();
        guard_.reset();
        end_run(std::nullopt);
    }
    return {};
}

} // namespace thaw::restore
