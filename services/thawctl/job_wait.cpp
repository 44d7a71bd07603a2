// SPDX-License-Identifier: MIT

#include "job_wait.hpp"

#include "api/restore1.hpp"
#include "event/priorities.hpp"
#include "exit_codes.hpp"

#include <signal.h>

#include <tuple>

namespace thaw::ctl {

namespace {

constexpr Microseconds kTick = 100 * kUsecPerMsec;
// Without a terminal nobody looks: just often enough to notice a lost signal.
constexpr Microseconds kSlowTick = 2 * kUsecPerSec;

bool is_final(const std::string& state) {
    return state == "done" || state == "failed" || state == "canceled" || state == "timeout";
}

// Nobody answered: no reply in time, or nobody there. What was answered, and the end of the bus
// itself, are for good.
bool is_silence(const Error& error) {
    const bool unanswered =
        error.code() == ETIMEDOUT || error.code() == EHOSTUNREACH || error.code() == ENXIO;
    return unanswered && error.bus_name().empty();
}

} // namespace

Result<JobOutcome> JobWait::run(const BusMessage& call, std::string label) {
    label_ = std::move(label);
    THAW_TRY(auto loop, EventLoop::create());
    loop_ = &loop;
    THAW_CHECK(prepare(loop));
    const auto begin = now_monotonic();
    THAW_CHECK(start(call));
    refresh();
    while (!finished_)
        THAW_CHECK(loop.run_once(kTick));
    bar_.clear();
    outcome_.elapsed = now_monotonic() - begin;
    (void)sd_bus_detach_event(client_.bus().get());
    if (failure_) return std::unexpected(std::move(*failure_));
    return std::move(outcome_);
}

Result<> JobWait::prepare(EventLoop& loop) {
    auto& bus = client_.bus();
    THAW_CHECK(bus.attach(loop));
    THAW_TRY(
        removed_, bus.match_signal(
                      restore1::kBusName, restore1::kPath, restore1::kManagerInterface,
                      "JobRemoved", [this](BusMessage& message) { on_job_removed(message); }
                  )
    );
    THAW_TRY(
        changed_,
        bus.match_signal(
            restore1::kBusName, "", "org.freedesktop.DBus.Properties", "PropertiesChanged",
            [this](BusMessage& message) {
                if (sd_bus_message_get_path(message.get()) == outcome_.path) refresh();
            }
        )
    );
    THAW_TRY(owner_, bus.watch_name(restore1::kBusName, [this](bool owned) { on_owner(owned); }));
    const auto ticked = [this] {
        refresh();
        std::ignore = tick_.rearm(bar_.visible() ? kTick : kSlowTick);
    };
    THAW_TRY(
        tick_,
        loop.add_timer(bar_.visible() ? kTick : kSlowTick, ticked, "progress", priority::kTimer)
    );
    return {};
}

Result<> JobWait::start(const BusMessage& call) {
    THAW_TRY(auto reply, client_.call(call));
    const char* path = nullptr;
    THAW_CHECK(reply.read("uo", &outcome_.id, &path));
    outcome_.path = path;
    // Only now: while a password is asked for, Ctrl-C ends the program.
    const auto interrupted = [this] { on_interrupt(); };
    THAW_TRY(interrupt_, loop_->add_signal(SIGINT, interrupted, "interrupt", priority::kTerminate));
    THAW_TRY(
        terminate_, loop_->add_signal(SIGTERM, interrupted, "terminate", priority::kTerminate)
    );
    return {};
}

void JobWait::on_job_removed(BusMessage& message) {
    std::uint32_t id = 0;
    const char* path = nullptr;
    const char* instance = nullptr;
    const char* error_name = nullptr;
    const char* error_message = nullptr;
    const char* result = nullptr;
    if (!message.read("uossss", &id, &path, &instance, &error_name, &error_message, &result))
        return; // not the signal we know
    if (finished_ || outcome_.path != path) return;
    outcome_.instance = instance;
    outcome_.error_name = error_name;
    outcome_.error_message = error_message;
    outcome_.result = result;
    // The object stays for a while: it knows the backend that was chosen, and why.
    if (auto last = client_.properties(restore1::kBusName, outcome_.path, restore1::kJobInterface))
        outcome_.properties = std::move(*last);
    finish();
}

void JobWait::on_owner(bool owned) {
    if (finished_ || outcome_.path.empty()) return;
    if (!owned) {
        owner_lost_ = true;
        bar_.show(0, label_ + ": waiting for the restore manager to come back");
    } else if (std::exchange(owner_lost_, false)) {
        refresh();
    }
}

void JobWait::refresh() {
    if (finished_ || outcome_.path.empty() || owner_lost_) return;
    auto job = client_.properties(restore1::kBusName, outcome_.path, restore1::kJobInterface);
    if (finished_) return;
    // One that is only slow, or is being started anew: the tick asks again.
    if (!job && is_silence(job.error()))
        return bar_.show(0, label_ + ": the restore manager does not answer; waiting");
    if (!job) {
        // A JobRemoved that is on its way would say more; it is dispatched before this comes again.
        failure_.emplace(
            std::move(job).error().with_context(fmt::format("job {} cannot be read", outcome_.id))
        );
        finish();
        return;
    }
    const auto state = job->text("State");
    if (is_final(state)) {
        outcome_.instance = job->text("Instance");
        outcome_.error_name = job->text("ErrorName");
        outcome_.error_message = job->text("ErrorMessage");
        outcome_.result = job->text("Result").empty() ? state : job->text("Result");
        outcome_.properties = std::move(*job);
        finish();
        return;
    }
    const auto stage = job->text("Stage");
    const auto backend = job->text("Backend");
    bar_.show(
        job->fraction("Progress"), fmt::format(
                                       "{}: {}{}", label_,
                                       canceling_      ? "canceling"
                                       : stage.empty() ? state
                                                       : stage,
                                       backend.empty() ? "" : " (" + backend + ")"
                                   )
    );
}

void JobWait::on_interrupt() {
    bar_.clear();
    if (std::exchange(canceling_, true)) {
        failure_.emplace(
            ECANCELED, fmt::format("not waiting any longer; job {} goes on", outcome_.id)
        );
        return finish();
    }
    fmt::print(stderr, "Canceling job {} (once more to stop waiting).\n", outcome_.id);
    auto message = client_.new_call(
        restore1::kBusName, restore1::kPath, restore1::kManagerInterface, "CancelJob"
    );
    if (!message || !message->append("u", outcome_.id)) return;
    cancel_ = client_.bus().call(std::move(*message), [this](Result<BusMessage> reply) {
        if (!reply && !finished_)
            print_warning(
                fmt::format("job {} cannot be canceled: {}", outcome_.id, reply.error().message())
            );
    });
}

void JobWait::finish() {
    finished_ = true;
}

} // namespace thaw::ctl
