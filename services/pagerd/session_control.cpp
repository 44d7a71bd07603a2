// SPDX-License-Identifier: MIT
// What is asked of a session while it serves: recordings, pages ahead of the guest, the barrier of
// a snapshot, and the way out: every page in, then no pager at all.
#include "api/pager1.hpp"
#include "bus/errors.hpp"
#include "bus/flags.hpp"
#include "create_request.hpp"
#include "event/priorities.hpp"
#include "image/access_log.hpp"
#include "log/message_ids.hpp"
#include "sealed_memfd.hpp"
#include "session.hpp"

#include <linux/userfaultfd.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace thaw::pagerd {

namespace {

constexpr Microseconds kQuiesceTimeout = 10 * kUsecPerSec;
constexpr std::size_t kDrainMessages = 64;

void answer(BusMessage& call, const Result<>& done) {
    if (!done) return call.reply_error(done.error());
    (void)call.reply_empty(); // a caller that is gone learns nothing
}

} // namespace

std::unexpected<Error> Session::not_serving() const {
    return fail_named(
        pager1::error::kNotServing, ENOTCONN, "the session is {}", kSessionStateNames.name(state_)
    );
}

void Session::attend() {
    if (worker_) worker_->attend();
}

void Session::take_recording(BusMessage& call) {
    const auto& info = memory_.info();
    if ((info.flags & protocol::kFlagRecording) == 0)
        return call.reply_error(
            Error(pager1::error::kNotRecording, ENODATA, fmt::format("{} records nothing", name()))
        );
    const image::AccessLog log{
        .id = info.image_id,
        .page_size = static_cast<std::uint32_t>(info.page_size),
        .page_count = memory_.page_count(),
        .settled = false, // the caller's to judge
        .pages = memory_.touches(),
    };
    auto recording = make_sealed_memfd("thaw-recording", image::encode_access_log(log));
    if (!recording) return call.reply_error(recording.error());
    if (auto sent = call.reply("h", recording->get()); !sent)
        log_warning(log_fields(), "{}", sent.error().message());
}

void Session::set_prefetch(BusMessage& call) {
    auto policy = memory_.prefetch();
    auto read = read_prefetch_options(call, policy);
    if (read) {
        if (auto flags = read_flags(call); !flags) read = std::unexpected(flags.error());
    }
    if (!read) return call.reply_error(std::move(read).error().with_bus_name(kErrorInvalidArgs));
    if ((memory_.info().flags & protocol::kFlagRecording) != 0 && policy.enabled)
        return call.reply_error(
            Error(kErrorInvalidArgs, EINVAL, "nothing is loaded ahead while the session records")
        );
    memory_.set_prefetch(policy);
    attend();
    changed({"Prefetch", "PrefetchRate", "ReplayBudget", "SequentialBudget"});
    answer(call, {});
}

void Session::on_replay_ended(const protocol::ReplayEndedMessage& message) {
    // The journal has it from the worker.
    log_debug(
        log_fields(), "{}: replay {} ({})", name(),
        protocol::replay_state_name(static_cast<std::uint32_t>(message.state)),
        protocol::replay_reason_name(static_cast<std::uint32_t>(message.reason))
    );
    changed({"ReplayState", "ReplayReason"});
}

// ---- the barrier of a snapshot --------------------------------------------------------------

void Session::quiesce(BusMessage& call) {
    if (state_ == SessionState::Complete) return answer(call, {}); // nothing is ever in flight
    if (state_ != SessionState::Serving) return answer(call, not_serving());
    memory_.request_quiesce(true);
    attend();
    quiescing_.push_back(call);
    auto deadline = broker_.loop.add_timer(
        kQuiesceTimeout,
        [this] {
            memory_.request_quiesce(false);
            attend();
            changed({"Quiesced"});
            for (const auto& waiting : std::exchange(quiescing_, {}))
                waiting.reply_error(
                    Error(pager1::error::kQuiesceTimeout, ETIMEDOUT, "faults are still waiting")
                );
        },
        "session-quiesce", priority::kTimer
    );
    if (deadline) quiesce_deadline_ = std::move(*deadline);
}

void Session::resume(BusMessage& call) {
    memory_.request_quiesce(false);
    attend();
    quiesce_deadline_.reset();
    for (const auto& waiting : std::exchange(quiescing_, {}))
        waiting.reply_error(Error(ECANCELED, "the session was resumed"));
    changed({"Quiesced"});
    answer(call, {});
}

void Session::on_attended(const protocol::AttendedMessage& message) {
    if (message.quiesced) answer_quiesced();
    changed({"Quiesced", "Tracking"});
    answer_tracking();
}

void Session::answer_quiesced() {
    quiesce_deadline_.reset();
    for (auto& waiting : std::exchange(quiescing_, {}))
        answer(waiting, {});
}

// ---- every page -----------------------------------------------------------------------------

void Session::complete(BusMessage& call) {
    if (state_ != SessionState::Serving && state_ != SessionState::Complete)
        return answer(call, not_serving());
    if (state_ == SessionState::Serving) {
        memory_.request_populate(true);
        attend();
    }
    answer(call, {});
}

// From inside a callback of the worker that is to be let go: not at once.
void Session::on_complete() {
    if (state_ != SessionState::Serving || complete_source_) return;
    auto later = broker_.loop.add_defer(
        [this] {
            complete_source_.reset();
            leave_pager();
        },
        "session-complete", priority::kReconcile
    );
    if (later) complete_source_ = std::move(*later);
}

void Session::leave_pager() {
    if (state_ != SessionState::Serving) return;
    // Its worker goes on noting what is written: unregistering would end that.
    if (is_tracked()) return;
    if (auto detached = detach(); !detached) {
        // The worker serves on, and it alone reads: nothing is lost but the saving. What was
        // unregistered before stays so; all its pages are in.
        drain_source_.reset();
        log_warning(
            log_fields(), "{}: not released from the pager: {}", name(), detached.error().message()
        );
        return;
    }
    // From here on its end is no loss. One whose Quit is lost sees the end of the VMM itself.
    worker_->finish();
    set_state(SessionState::Complete);
    log_event(
        LogLevel::Info, message_id::kSessionComplete, log_fields(),
        "{}: all {} of memory is loaded; no pager is needed any more", name(),
        format_size(memory_.info().memory_size)
    );
    answer_quiesced();
}

// A missing page of a range that nobody watches reads as zeros: it is unregistered only when every
// page is present, or was given back by the guest and has to be zero.
Result<> Session::detach() {
    THAW_TRY(const auto regions, memory_.regions());
    for (const auto& region : regions)
        if (!memory_.is_covered(region))
            return thaw::fail(EBUSY, "the region at {:#x} has missing pages", region.base);
    // Who gives memory back in this moment waits until its message is read: by the worker until it
    // ends, and by us.
    THAW_TRY(
        drain_source_, broker_.loop.add_io(
                           uffd_.get(), EPOLLIN, [this](std::uint32_t) { drain_messages(); },
                           "session-drain", priority::kVital
                       )
    );
    for (const auto& region : regions) {
        uffdio_range range{.start = region.base, .len = region.size};
        if (::ioctl(uffd_.get(), UFFDIO_UNREGISTER, &range) != 0)
            return fail_errno(errno, "unregister {:#x}", region.base);
    }
    drain_messages();
    return {};
}

// Nobody is to be answered any more, but a guest that gives memory back waits to be heard.
void Session::drain_messages() {
    std::array<uffd_msg, kDrainMessages> messages{};
    while (::read(uffd_.get(), messages.data(), sizeof messages) > 0)
        continue;
}

} // namespace thaw::pagerd
