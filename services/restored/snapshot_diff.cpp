// SPDX-License-Identifier: MIT
// What a snapshot needs beyond the VMM when it is to be a difference: the pager's word on what has
// changed, while nothing changes.
#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "log/log.hpp"
#include "snapshot_job.hpp"

#include <sys/sysinfo.h>

#include <utility>

namespace thaw::restore {

namespace error = restore1::error;

namespace {

constexpr unsigned kReleaseAttempts = 10;
constexpr Microseconds kReleaseRetry = 100 * kUsecPerMsec;

// A page that is swapped out is not resident and not zero either.
bool may_be_swapped_out() {
    struct sysinfo host{};
    return ::sysinfo(&host) != 0 || host.totalswap != 0;
}

Failure tracking_failure(const Error& cause) {
    if (cause.bus_name() == pager1::error::kNotTracking)
        return {.name = error::kNotTracked, .message = cause.message()};
    if (cause.bus_name() == pager1::error::kTrackingFailed)
        return {.name = error::kTrackingFailed, .message = cause.message()};
    return pager_failure(cause);
}

} // namespace

void SnapshotJob::check_tracked() {
    if (!by_pager_)
        return fail_with(
            {.name = error::kNotTracked,
             .message = "the VM was restored without the pager, so nobody noted what it changed"}
        );
    pager_ = context().pager.read_session(instance(), [this](const Result<PagerSession>& session) {
        if (!session) return fail_with(pager_failure(session.error()));
        if (auto bad = judge_session(*session)) return fail_with(std::move(*bad));
        resident_only_ = !may_be_swapped_out();
        if (resident_only_)
            pause();
        else
            load_all();
    });
}

std::optional<Failure> SnapshotJob::judge_session(const PagerSession& session) const {
    if (!session.present || session.has_failed())
        return Failure{.name = error::kPagerFailed, .message = "the pager session failed"};
    if (session.tracking == "failed")
        return Failure{
            .name = error::kTrackingFailed,
            .message = "nobody can vouch for what the VM changed (see the journal)"
        };
    if (session.tracking != "armed")
        return Failure{
            .name = error::kNotTracked,
            .message = "the VM was not restored with --track, so nobody noted what it changed"
        };
    if (session.image_id != image::format_id(manifest_.id))
        return Failure{
            .name = error::kImageMismatch,
            .message = fmt::format("image {} is not the one that the VM came from", image())
        };
    return std::nullopt;
}

void SnapshotJob::quiesce() {
    set_stage("quiesce");
    // Before the answer: one that got lost may have been obeyed.
    quiesced_ = true;
    pager_ = context().pager.change_session(instance(), "Quiesce", [this](const Result<>& done) {
        if (!done) return fail_with(tracking_failure(done.error()));
        create();
    });
}

// After the VMM has written everything, and before the VM runs: all that was changed is noted.
void SnapshotJob::take_dirty() {
    set_stage("changed-pages");
    pager_ = context().pager.take_dirty(instance(), [this](Result<Fd> bitmap) {
        if (!bitmap) return fail_with(tracking_failure(bitmap.error()));
        auto pages =
            image::PageBitmap::load(bitmap->get(), manifest_.memory_size / image::kPageSize4K);
        if (!pages)
            return fail_with({.name = error::kTrackingFailed, .message = pages.error().message()});
        dirty_ = std::move(*pages);
        dirty_.widen(manifest_.page_size / image::kPageSize4K);
        resume();
    });
}

// Whether a Diff snapshot was refused, as VMMs do that keep no log and do not look at what is
// resident either.
bool SnapshotJob::falls_back() {
    if (!resident_only_ || !failure_ || failure_->name != error::kSnapshotFailed) return false;
    log_info(
        log_fields(), "{}: the VMM makes no partial snapshot ({}): all memory is written",
        instance(), failure_->message
    );
    resident_only_ = false;
    again_ = true;
    return true;
}

void SnapshotJob::release_session() {
    if (!quiesced_ || ended_) return after_release();
    pager_ = context().pager.change_session(instance(), "Resume", [this](const Result<>& done) {
        // A broker that is being restarted answers soon.
        const bool gone = done || done.error().bus_name() == pager1::error::kNoSuchSession;
        if (!gone && ++release_attempts_ < kReleaseAttempts)
            return arm(kReleaseRetry, [this] { release_session(); });
        if (!gone)
            log_warning(
                log_fields(), "{}: the pager session stays quiet: {}", instance(),
                done.error().message()
            );
        quiesced_ = false;
        after_release();
    });
}

void SnapshotJob::after_release() {
    if (failure_) return conclude();
    if (std::exchange(again_, false)) return load_all();
    seal();
}

} // namespace thaw::restore
