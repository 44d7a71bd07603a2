// SPDX-License-Identifier: MIT
#include "job.hpp"

#include "backoff.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"

#include <algorithm>

namespace thaw::fetchd {

Job::Job(Engine& engine, protocol::FetchMessage request, Report report)
    : engine_(engine), request_(std::move(request)), report_(std::move(report)) {}

void Job::start() {
    if (is_over()) return;
    const auto arm = [this](EventSource& source, Microseconds delay, auto callback, auto what) {
        auto made = engine_.loop.add_timer(delay, callback, what, priority::kTimer);
        if (made) source = std::move(*made);
        return made.has_value();
    };
    const auto expired = [this] {
        if (is_over()) return;
        auto text = fmt::format("not done within {}", format_timespan(time_limit()));
        if (!last_.text.empty()) text += "; before that: " + last_.text;
        give_up({FetchError::Timeout, ETIMEDOUT, true, std::move(text)});
    };
    const bool armed =
        arm(total_, time_limit(), expired, "fetch-limit") &&
        arm(
            stall_, engine_.config.stall_timeout, [this] { on_stall_check(); }, "fetch-stall"
        ) &&
        arm(retry_, 0, [this] { try_once(); }, "fetch-retry");
    if (!armed) give_up({FetchError::Unreachable, ENOMEM, true, "no memory for timers"});
}

void Job::cancel() {
    if (!is_over()) give_up({FetchError::Canceled, ECANCELED, true, "the transfer was canceled"});
}

void Job::try_once() {
    ++tries_;
    touch();
    (void)stall_.rearm(engine_.config.stall_timeout);
    if (auto begun = begin(); !begun) try_failed(std::move(begun).error());
}

void Job::on_stall_check() {
    if (is_over()) return;
    const auto now = now_monotonic();
    if (!waits_for_source()) touched_ = now;
    const auto limit = engine_.config.stall_timeout;
    if (now - touched_ < limit) {
        (void)stall_.rearm(limit - (now - touched_));
        return;
    }
    try_failed(
        {FetchError::Timeout, ETIMEDOUT, true,
         fmt::format("the source was silent for {}", format_timespan(limit))}
    );
}

void Job::try_failed(Failure failure) {
    if (is_over()) return;
    abort();
    stall_.enable(false);
    const auto& config = engine_.config;
    if (!failure.retryable || tries_ >= config.most_tries) return give_up(std::move(failure));
    const double chance = std::generate_canonical<double, 24>(engine_.chance);
    const auto delay = retry_delay(tries_, config.backoff, config.backoff_max, chance);
    log_debug(
        "{}: {}; once more in {}", public_part(request_.url), failure.text, format_timespan(delay)
    );
    last_ = std::move(failure);
    if (!retry_.rearm(delay)) give_up(last_);
}

void Job::succeeded(SourceIdentity identity) {
    if (is_over()) return;
    protocol::FetchMessage end;
    end.type = protocol::FetchType::Done;
    end.identity = std::move(identity);
    finish(std::move(end));
}

void Job::give_up(Failure failure) {
    log_failure(failure);
    protocol::FetchMessage end;
    end.type = protocol::FetchType::Failed;
    end.error = failure.error;
    end.errno_value = failure.errno_value;
    end.retryable = failure.retryable;
    end.text = std::move(failure.text);
    finish(std::move(end));
}

void Job::log_failure(const Failure& failure) const {
    // Whoever only wants to know whether there is something is told, and nobody else.
    const bool nothing_there =
        request_.type == protocol::FetchType::Probe && failure.errno_value == ENOENT;
    if (failure.error == FetchError::Canceled || nothing_there) return;
    const auto url = public_part(request_.url);
    log_event(
        LogLevel::Warning, message_id::kFetchFailed,
        {{"THAW_URL", url},
         {"THAW_ERROR", std::string(protocol::fetch_error_name(failure.error))},
         {"THAW_TRIES", std::to_string(tries_)}},
        "{}: {} ({} of {} tries)", url.empty() ? "A source that is a file" : url, failure.text,
        tries_, engine_.config.most_tries
    );
}

void Job::finish(protocol::FetchMessage end) {
    end.id = request_.id;
    end.tries = tries_;
    // A server's words may be in it.
    end.text.resize(std::min(end.text.size(), protocol::kFetchMaxText));
    std::ranges::replace_if(
        end.text, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }, ' '
    );
    end_ = std::move(end);
    total_.reset();
    stall_.reset();
    retry_.reset();
    abort();
    settle();
}

void Job::settle() {
    if (!end_ || reported_ || !is_quiet()) return;
    reported_ = true;
    end_->landed = landed();
    report_.ended(*std::move(end_));
    end_.emplace(); // over all the same
}

} // namespace thaw::fetchd
