// SPDX-License-Identifier: MIT
// What a volume does with its reserve: lay, heal, release, and say what became of it.
#include "log/message_ids.hpp"
#include "volume.hpp"

#include <algorithm>
#include <utility>

namespace thaw::diskguard {

namespace {

// After a failure to lay or to heal.
constexpr Microseconds kRetry = 60 * kUsecPerSec;

struct Saying {
    LogLevel priority;
    std::string_view message;
};

Saying saying_of(reserve::State state) {
    switch (state) {
    case reserve::State::Armed:
        return {LogLevel::Info, message_id::kReserveArmed};
    case reserve::State::Degraded:
        return {LogLevel::Warning, message_id::kReserveDegraded};
    case reserve::State::Placebo:
        return {LogLevel::Warning, message_id::kReservePlacebo};
    case reserve::State::Released:
        return {LogLevel::Notice, message_id::kReserveReleased};
    case reserve::State::Deferred:
        return {LogLevel::Notice, message_id::kReserveDeferred};
    case reserve::State::Failed:
        break;
    }
    return {LogLevel::Error, message_id::kReserveFailed};
}

bool means_no_room(const Error& error) {
    return error.code() == ENOSPC || error.code() == EDQUOT;
}

} // namespace

struct Volume::Laid {
    Result<std::optional<unsigned>> laid;
    std::vector<std::string> problems; // of healing
    Result<reserve::Measurement> measured;
};

struct Volume::Released {
    Result<reserve::ReleaseReport> report;
    Result<reserve::Measurement> measured;
};

// What follows from a look: at most one step, after which comes another look.
void Volume::act() {
    if (releases_ == 0 && !found_.read_only && now_monotonic() >= next_attempt_) {
        if (state_.rearm().action == reserve::RearmAction::Lay && lay()) return;
        if (heal()) return;
    }
    say_rearm();
    say_state();
    schedule();
}

bool Volume::lay() {
    const auto& plan = state_.plan();
    if (!plan) return false;
    worker_->run<Laid>(
        [volume = found_, plan = *plan] {
            Laid done{reserve::lay_next_chunk(volume, plan), {}, {}};
            done.measured = reserve::measure(volume, plan);
            return done;
        },
        [this](Laid done) { on_laid(std::move(done)); }
    );
    return true;
}

bool Volume::heal() {
    const auto& measured = state_.measured();
    const auto& plan = state_.plan();
    if (!plan || !measured || !reserve::needs_healing(*measured)) return false;
    worker_->run<Laid>(
        [volume = found_, plan = *plan] {
            Laid done{std::optional<unsigned>(), {}, {}};
            const auto report = reserve::heal(volume, plan);
            if (!report)
                done.laid = std::unexpected(report.error());
            else
                for (const auto& problem : report->problems)
                    done.problems.push_back(
                        fmt::format("chunk {}: {}", problem.index, problem.error.message())
                    );
            done.measured = reserve::measure(volume, plan);
            return done;
        },
        [this](Laid done) { on_laid(std::move(done)); }
    );
    return true;
}

void Volume::on_laid(Laid done) {
    const auto now = now_monotonic();
    if (!done.laid) {
        const auto& error = done.laid.error();
        next_attempt_ = now + kRetry;
        // Somebody else is at it: a later look shows what became of it.
        if (error.code() == EBUSY)
            log_debug(log_fields(), "{}: {}", found_.mount_point, error.message());
        else if (means_no_room(error))
            log_notice(log_fields(), "{}: no room: {}", found_.mount_point, error.message());
        else
            state_.set_problem(error.message());
    } else if (!done.problems.empty()) {
        next_attempt_ = now + kRetry;
        state_.set_problem(done.problems.front());
    } else {
        state_.set_problem({});
    }
    const auto before = state_.measured();
    take(std::move(done.measured));
    // What went well and changed nothing would be tried for ever.
    const auto& after = state_.measured();
    if (before && after && before->chunks == after->chunks)
        next_attempt_ = std::max(next_attempt_, now + kRetry);
    act();
}

void Volume::take(Result<reserve::Measurement> measured) {
    const auto before = state_.level();
    const auto now = now_monotonic();
    last_whole_ = now;
    state_.forget_growth();
    if (measured) {
        state_.observe(now, *measured);
        (void)state_.decide_rearm(now);
    } else {
        state_.fail_look(measured.error().message());
    }
    publish();
    publish_level(before);
}

// ---- release --------------------------------------------------------------------------------

void Volume::release(
    std::optional<std::uint64_t> bytes, ReleaseCause cause,
    std::function<void(Result<reserve::ReleaseReport>)> handler
) {
    ++releases_;
    const reserve::Plan plan = state_.plan().value_or(reserve::Plan{});
    worker_->run<Released>(
        [volume = found_, plan, bytes] {
            Released done{reserve::release(volume, {.bytes = bytes}), {}};
            done.measured = reserve::measure(volume, plan);
            return done;
        },
        [this, cause = std::move(cause), handler = std::move(handler)](Released done) {
            on_released(std::move(done), cause, handler);
        }
    );
}

void Volume::on_released(
    Released done, const ReleaseCause& cause,
    const std::function<void(Result<reserve::ReleaseReport>)>& handler
) {
    --releases_;
    if (!done.report && done.report.error().code() == ESTALE) guard_.owner.volume_moved(*this);
    if (done.report) {
        const auto& report = *done.report;
        auto fields = log_fields();
        fields.push_back({"THAW_GAINED_BYTES", std::to_string(report.gained)});
        fields.push_back({"THAW_REMAINING_BYTES", std::to_string(report.remaining)});
        fields.push_back({"THAW_WHO", cause.who});
        if (report.chunks > 0) {
            log_event(
                LogLevel::Notice, message_id::kReserveReleasedBy, fields,
                "{}: {} released by {} ({}), {} gained, {} still held", found_.mount_point,
                format_size(report.let_go), cause.who, cause.why, format_size(report.gained),
                format_size(report.remaining)
            );
            guard_.owner.action_taken(*this, "release", cause.why);
        }
        for (const auto& problem : report.problems)
            log_warning(fields, "{}: {}", found_.mount_point, problem);
    }
    if (state_.known()) {
        take(std::move(done.measured));
        say_rearm();
        say_state();
    }
    handler(std::move(done.report));
    look(true);
}

void Volume::release_if_wanted() {
    const auto& measured = state_.measured();
    const AutoRelease question{
        .policy = guard_.config.release,
        .level = state_.level(),
        .releasable = measured ? measured->releasable : 0,
        .writers_stopped = writers_stopped_,
        .last = last_auto_release_,
        .cooldown = guard_.config.release_cooldown,
    };
    const auto now = now_monotonic();
    if (releases_ > 0 || !wants_release(question, now)) return;
    last_auto_release_ = now;
    release(
        std::nullopt, {"thaw-diskguardd", "the volume is full, its writers are paused"},
        [this](const Result<reserve::ReleaseReport>& report) {
            if (!report)
                log_error(
                    log_fields(), "{}: release failed: {}", found_.mount_point,
                    report.error().message()
                );
        }
    );
}

// ---- what the journal hears -----------------------------------------------------------------

void Volume::say_rearm() {
    const auto& rearm = state_.rearm();
    if (rearm.action == said_rearm_) return;
    said_rearm_ = rearm.action;
    if (rearm.action != reserve::RearmAction::Deferred) return;
    auto fields = log_fields();
    fields.push_back({"THAW_FREE", std::to_string(rearm.free)});
    fields.push_back({"THAW_NEEDED", std::to_string(rearm.needed)});
    fields.push_back({"THAW_THRESHOLD", std::to_string(rearm.threshold)});
    log_event(
        LogLevel::Notice, message_id::kReserveDeferred, fields,
        "{}: {} of the reserve are missing, and come back when {} are free{}; {} are",
        found_.mount_point, format_size(rearm.needed), format_size(rearm.threshold),
        rearm.inodes_short ? " and enough inodes" : "", format_size(rearm.free)
    );
}

void Volume::say_state() {
    const auto state = state_.state();
    if (said_state_ == state) return;
    said_state_ = state;
    const auto& measured = state_.measured();
    // Said with its numbers by say_rearm(). And where no reserve is wanted, none is missed.
    if (state == reserve::State::Deferred) return;
    if (measured && measured->planned == 0 && measured->allocated == 0) return;
    const auto [priority, message] = saying_of(state);
    auto fields = log_fields();
    fields.push_back({"THAW_STATE", std::string(reserve::kStateNames.name(state))});
    if (measured) {
        fields.push_back({"THAW_PLANNED_BYTES", std::to_string(measured->planned)});
        fields.push_back({"THAW_RELEASABLE_BYTES", std::to_string(measured->releasable)});
    }
    log_event(
        priority, message, fields, "{}: reserve {}, {} of {} can be released{}{}",
        found_.mount_point, reserve::kStateNames.name(state),
        format_size(measured ? measured->releasable : 0),
        format_size(measured ? measured->planned : 0), state_.problem() ? ": " : "",
        state_.problem().value_or("")
    );
}

} // namespace thaw::diskguard
