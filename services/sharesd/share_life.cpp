// SPDX-License-Identifier: MIT
// Start, end and what follows from it.
#include "api/shares1.hpp"
#include "event/priorities.hpp"
#include "log/message_ids.hpp"
#include "log_watch.hpp"
#include "share.hpp"

namespace thaw::sharesd {

namespace error = shares1::error;

namespace {

// What a daemon said last reaches the journal a moment after its end.
constexpr Microseconds kLastWords = 150 * kUsecPerMsec;
// So often it is looked for when the journal is late: a Rust daemon that ends well always says why.
constexpr unsigned kLooksForWords = 15;
// An error explains an end that follows it at once, and none of hours later.
constexpr Microseconds kErrorExplains = 10 * kUsecPerSec;
constexpr Microseconds kAskAgain = kUsecPerSec;

} // namespace

// ---- start ----------------------------------------------------------------------------------

void Share::bring_up(const Source* source) {
    forget_lines();
    bring_up_ = std::make_unique<ShareBringUp>(
        context_, record_, source, [this](Result<ShareBringUp::Up> up) { on_up(std::move(up)); }
    );
}

void Share::on_up(Result<ShareBringUp::Up> up) {
    const auto finished = std::move(bring_up_);
    source_ = {};
    if (up) {
        take_up(*up);
        for (const auto& line : finished->heard())
            on_log(line);
        return;
    }
    if (started_) return abandon(std::move(up).error());
    lose(up.error().bus_name(), up.error().message());
}

void Share::take_up(const ShareBringUp::Up& up) {
    main_pid_ = worker_pid_ = up.main_pid;
    invocation_ = up.invocation;
    effective_limit_ = up.limit;
    degraded_ = up.degraded;
    ending_daemon_ = false;
    forget_use();
    record_.ready = true;
    record_.lost = false;
    keep();
    // One that was found again may have its client already.
    if (!is_up(state_)) set_state(ShareState::Listening);
    changed({"EffectiveLimit", "Degraded", "DescriptorBudget"});
    if (degraded_)
        log_event(
            LogLevel::Warning, message_id::kShareDegraded, log_fields(),
            "{}: the daemon may open {} files instead of {}", id_, effective_limit_, record_.limit
        );
    watch_vm();
    service_watch_ =
        context_.systemd.watch_unit(service_, [this](const UnitState& unit) { on_service(unit); });
    poll();
    if (auto done = std::exchange(started_, nullptr)) done({});
}

// The first start failed: nobody has heard of the share.
void Share::abandon(Error error) {
    log_event(
        LogLevel::Error, message_id::kShareStartFailed, log_fields(), "{}: {}", id_, error.message()
    );
    remove("start-failed", [this, error = std::move(error)](const Result<>&) mutable {
        if (auto done = std::exchange(started_, nullptr)) done(std::unexpected(std::move(error)));
    });
}

// Shown as its record has it from the first moment on: nobody may hear that there is no such share
// only because PID 1 has not answered us yet.
void Share::adopt(Done done) {
    started_ = std::move(done);
    // The answer to AddShare never came, and its caller asks again; or its removal was interrupted.
    if (!record_.ready || record_.ending) {
        remove(record_.ending ? "removed" : "start-failed", [this](const Result<>&) {
            if (auto told = std::exchange(started_, nullptr))
                told(fail(ECANCELED, "it was to be removed"));
        });
        return;
    }
    effective_limit_ = record_.limit;
    if (record_.lost)
        state_ = ShareState::Failed;
    else
        state_ = record_.connected ? ShareState::Connected : ShareState::Listening;
    std::exchange(started_, nullptr)({});
    if (record_.lost) return watch_vm();
    find_unit();
}

void Share::find_unit() {
    finding_ = context_.systemd.read_unit(service_, [this](Result<UnitState> unit) {
        if (unit) return on_found_unit(*unit);
        // A systemd that does not answer says nothing about the share.
        log_warning(
            log_fields(), "{}: asking again what became of {}: {}", id_, service_,
            unit.error().message()
        );
        auto timer = context_.loop.add_timer(
            kAskAgain, [this] { find_unit(); }, "share-adopt", priority::kTimer
        );
        THAW_INVARIANT(timer.has_value());
        timer_ = std::move(*timer);
    });
}

void Share::on_found_unit(const UnitState& unit) {
    invocation_ = unit.invocation;
    const auto replayed = LogWatch::replay(service_, record_.started, [this](const LogLine& line) {
        note_line(line);
    });
    if (!replayed) log_debug(log_fields(), "{}: {}", id_, replayed.error().message());
    if (unit.is_gone() || unit.main_pid <= 0) {
        watch_vm();
        return daemon_ended(unit);
    }
    forget_lines(); // it lives: what it said explains no end
    ShareBringUp::Up up{.main_pid = unit.main_pid, .invocation = unit.invocation};
    const auto worker = worker_of(unit.main_pid);
    const auto limits = worker ? read_limits(*worker) : fail(ESRCH, "no worker");
    up.limit = limits ? limits->soft : record_.limit;
    up.degraded = limits && limits->soft < record_.limit;
    take_up(up);
    log_event(
        LogLevel::Info, message_id::kShareAdopted, log_fields(),
        "{}: found again after a restart, {}", id_, kShareStateNames.name(state_)
    );
}

// ---- end ------------------------------------------------------------------------------------

void Share::on_service(const UnitState& unit) {
    if (!is_up(state_) || is_ending()) return;
    // The socket started the daemon anew before we saw the end of the old one.
    const bool other = unit.main_pid > 0 && unit.main_pid != main_pid_;
    if (!unit.is_gone() && !other) return;
    if (!ending_daemon_) daemon_ended(other ? UnitState{.active_state = "inactive"} : unit);
}

void Share::daemon_ended(const UnitState& unit) {
    ending_daemon_ = true;
    end_ = unit;
    main_pid_ = worker_pid_ = 0;
    poll_.reset();
    // It would start another daemon for a client that comes too late.
    if (!record_.options.reconnectable)
        stopping_ =
            context_.systemd.stop_unit(socket_unit_, "replace", [](const Result<std::string>&) {});
    await_last_words(kLooksForWords);
}

void Share::await_last_words(unsigned looks) {
    const auto look = [this, looks] {
        if (context_.log != nullptr) context_.log->drain();
        const bool silent = !goodbye_logged_ && !protocol_error_logged_ && !has_logged_error();
        // The Rust ones say why they end well; the C one ends with 1 after a panic, which it tells,
        // and when it was killed in its sandbox, of which it says nothing.
        const int speaks_with = record_.dialect == Dialect::C ? 1 : 0;
        const bool should_speak =
            record_.connected && end_.exec_main_status == speaks_with && !end_.was_stopped();
        if (silent && should_speak && looks > 1) return await_last_words(looks - 1);
        conclude();
    };
    auto timer = context_.loop.add_timer(kLastWords, look, "share-end", priority::kTimer);
    THAW_INVARIANT(timer.has_value());
    timer_ = std::move(*timer);
}

void Share::conclude() {
    timer_.reset();
    record_.exit = classify_exit({
        .unit = end_,
        .is_mute = record_.dialect == Dialect::C && record_.options.sandbox == Sandbox::Namespace,
        .was_connected = record_.connected,
        .protocol_error_logged = protocol_error_logged_,
        .error_logged = has_logged_error(),
    });
    const bool normal = error_of(record_.exit).empty();
    auto fields = log_fields();
    fields.push_back({"THAW_RESULT", std::string(kExitClassNames.name(record_.exit))});
    log_event(
        normal ? LogLevel::Info : LogLevel::Error,
        normal ? message_id::kShareDaemonEnded : message_id::kShareDaemonFailed, fields,
        "{}: the daemon ended ({}): {}", id_, kExitClassNames.name(record_.exit),
        describe_exit(record_.exit, end_)
    );
    changed({"Result"});
    follow(after_exit({
        .exit = record_.exit,
        .reconnectable = record_.options.reconnectable,
        .restarts = count_restart(),
        .limit = context_.config.restart_limit,
        .first_delay = context_.config.restart_delay,
        .longest_delay = context_.config.longest_restart_delay,
    }));
}

// Restarts within the interval so far.
std::uint64_t Share::count_restart() {
    const auto now = now_monotonic();
    while (!restarts_.empty() && now - restarts_.front() > context_.config.restart_interval)
        restarts_.pop_front();
    return restarts_.size();
}

void Share::follow(const Follow& next) {
    record_.connected = false;
    keep();
    switch (next.step) {
    case NextStep::End:
        remove(kExitClassNames.name(record_.exit), [](const Result<>&) {});
        return;
    case NextStep::Fail: {
        const auto how = describe_exit(record_.exit, end_);
        if (next.limit_hit)
            return lose(
                error::kRestartLimit,
                fmt::format("restarted {} times, and again {}", restarts_.size(), how)
            );
        return lose(
            error_of(record_.exit),
            has_logged_error() ? fmt::format("{}: {}", how, trim(last_error_)) : how
        );
    }
    case NextStep::Restart:
        break;
    }
    if (next.counts) restarts_.push_back(now_monotonic());
    ++record_.restarts;
    changed({"NRestarts"});
    if (next.delay == 0) return restart();
    set_state(ShareState::Backoff);
    // Until then nobody may start it by connecting.
    stopping_ =
        context_.systemd.stop_unit(socket_unit_, "replace", [](const Result<std::string>&) {});
    auto timer = context_.loop.add_timer(
        next.delay, [this] { restart(); }, "share-backoff", priority::kTimer
    );
    THAW_INVARIANT(timer.has_value());
    timer_ = std::move(*timer);
}

void Share::restart() {
    timer_.reset();
    set_state(ShareState::Starting);
    bring_up(nullptr);
}

// Kept on the books, so that everybody sees it and the VM's owner can act.
void Share::lose(std::string_view error_name, const std::string& message) {
    record_.lost = true;
    record_.error_name = error_name.empty() ? error::kDaemonFailed : error_name;
    record_.error_message = message;
    poll_.reset();
    keep();
    set_state(ShareState::Failed);
    changed({"ErrorName", "ErrorMessage"});
    stopping_ =
        context_.systemd.stop_unit(socket_unit_, "replace", [](const Result<std::string>&) {});
    auto fields = log_fields();
    fields.push_back({"THAW_ERROR", record_.error_name});
    // At the VM as well: its guest hangs in this share.
    if (!record_.options.vm_unit.empty())
        fields.push_back({"OBJECT_SYSTEMD_UNIT", record_.options.vm_unit});
    log_event(
        LogLevel::Error, message_id::kShareLost, fields, "{}: the share is lost: {}", id_, message
    );
    const std::string result(kExitClassNames.name(record_.exit));
    if (published_)
        (void)context_.bus.emit_signal(
            path_, shares1::kShareInterface, "Lost", "sss", result.c_str(),
            record_.error_name.c_str(), message.c_str()
        );
}

// ---- what the daemon says -------------------------------------------------------------------

void Share::forget_lines() {
    protocol_error_logged_ = goodbye_logged_ = false;
    error_logged_at_ = 0;
    last_error_.clear();
}

bool Share::has_logged_error() const {
    return error_logged_at_ != 0 && now_monotonic() - error_logged_at_ < kErrorExplains;
}

void Share::note_line(const LogLine& line) {
    const auto hint = read_log_line(line.text);
    if (hint == LogHint::ProtocolError) protocol_error_logged_ = true;
    if (hint == LogHint::Disconnected) goodbye_logged_ = true;
    if (hint == LogHint::Error || hint == LogHint::ProtocolError) {
        error_logged_at_ = now_monotonic();
        last_error_ = line.text;
    }
    if (hint != LogHint::HandlesOff || record_.handles == HandleMode::Never) return;
    record_.handles = HandleMode::Never;
    record_.handles_reason = trim(line.text);
    keep();
    changed({"InodeFileHandles", "FileHandlesReason"});
    log_event(
        LogLevel::Warning, message_id::kShareDegraded, log_fields(),
        "{}: the daemon gave up file handles, each inode costs a descriptor now: {}", id_,
        record_.handles_reason
    );
}

void Share::on_log(const LogLine& line) {
    const auto hint = read_log_line(line.text);
    if (hint == LogHint::None) return;
    // Which daemon is ours is known once its unit has been read.
    if (bring_up_) return bring_up_->on_log(line);
    if (line.invocation != invocation_) return;
    note_line(line);
    if (!is_up(state_)) return;
    if (hint == LogHint::Connected) poll();
    if (hint == LogHint::Exhausted) on_exhausted_line();
}

} // namespace thaw::sharesd
