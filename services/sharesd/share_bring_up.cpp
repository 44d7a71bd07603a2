// SPDX-License-Identifier: MIT
#include "share_bring_up.hpp"

#include "api/shares1.hpp"
#include "core/names.hpp"
#include "event/priorities.hpp"

#include <algorithm>

namespace thaw::sharesd {

namespace error = shares1::error;

namespace {

// What a daemon said last reaches the journal a moment after its end.
constexpr Microseconds kLastWords = 150 * kUsecPerMsec;
// The journal tells of new lines up to a quarter of a second late; they can be read at once.
constexpr Microseconds kListen = 5 * kUsecPerMsec;
// A child that the daemon started first and that is gone is none of those that matter.
constexpr Microseconds kLookAgain = 10 * kUsecPerMsec;
// A daemon says a few lines when it starts; one that floods the journal is not listened to.
constexpr std::size_t kMostHeard = 64;

std::unexpected<Error> not_started(std::string_view why) {
    return fail_named(error::kStartFailed, ECHILD, "the share's daemon did not start: {}", why);
}

} // namespace

ShareBringUp::ShareBringUp(
    const Context& context, const Record& record, const Source* source, Done done
)
    : context_(context), record_(record), source_(source), done_(std::move(done)),
      service_(share_service(record.vm, record.tag)),
      socket_(share_socket_unit(record.vm, record.tag)) {
    auto deadline = context_.loop.add_timer(
        context_.config.start_timeout,
        [this] { finish(not_started("systemd did not answer in time")); }, "share-start",
        priority::kTimer
    );
    THAW_INVARIANT(deadline.has_value());
    deadline_ = std::move(*deadline);
    reset();
}

void ShareBringUp::arm(Microseconds delay, std::function<void()> then) {
    auto timer = context_.loop.add_timer(delay, std::move(then), "share-settle", priority::kTimer);
    THAW_INVARIANT(timer.has_value());
    timer_ = std::move(*timer);
}

// A unit that failed stays loaded, and would be started with the settings of its last start.
void ShareBringUp::reset() {
    systemd_ = context_.systemd.reset_failed(socket_, [this](const Result<>&) {
        systemd_ = context_.systemd.reset_failed(service_, [this](const Result<>&) { start(); });
    });
}

void ShareBringUp::start() {
    // The service requires its socket: both are one transaction.
    systemd_ = context_.systemd.start_unit(service_, "replace", [this](Result<std::string> result) {
        on_job(std::move(result));
    });
}

void ShareBringUp::on_job(Result<std::string> result) {
    if (!result) return finish(not_started(result.error().message()));
    if (*result != "done") return on_job_failed(*result);
    read(&ShareBringUp::on_unit);
}

void ShareBringUp::on_job_failed(std::string_view result) {
    if (result == "dependency")
        return finish(fail_named(
            error::kSocketFailed, EADDRNOTAVAIL, "systemd could not make the socket {}",
            paths::share_socket(record_.vm, record_.tag)
        ));
    finish(not_started(fmt::format("the job of {} ended as {}", service_, result)));
}

void ShareBringUp::read(void (ShareBringUp::*then)(const UnitState&)) {
    systemd_ = context_.systemd.read_unit(service_, [this, then](Result<UnitState> unit) {
        if (unit)
            (this->*then)(*unit);
        else
            finish(not_started(unit.error().message()));
    });
}

void ShareBringUp::on_unit(const UnitState& unit) {
    if (unit.is_gone() || unit.main_pid <= 0) return died(unit);
    up_.main_pid = unit.main_pid;
    up_.invocation = unit.invocation;
    if (auto checked = check_daemon(unit.main_pid); !checked) {
        // One of its processes ended while we looked: its unit knows whether all of it did.
        const int code = checked.error().code();
        const bool gone = code == ENOENT || code == ESRCH;
        if (gone && checked.error().bus_name().empty())
            return arm(kLookAgain, [this] { read(&ShareBringUp::on_unit); });
        return finish(std::unexpected(std::move(checked).error().with_bus_name(error::kStartFailed))
        );
    }
    settle(context_.config.settle);
}

Result<> ShareBringUp::check_daemon(pid_t main_pid) {
    THAW_TRY(const auto worker, worker_of(main_pid));
    THAW_TRY(const auto limits, read_limits(worker));
    up_.limit = limits.soft;
    switch (judge_limit(record_.limit, limits.soft, record_.options.on_low_limit)) {
    case LimitVerdict::Enough:
        break;
    case LimitVerdict::Degraded:
        up_.degraded = true;
        break;
    case LimitVerdict::TooLow:
        return fail_named(
            error::kLimitTooLow, EMFILE,
            "the daemon may open {} files instead of {}: this host gives no more (a smaller "
            "LimitNOFILE=, or OnLowLimit=degraded, accepts that)",
            limits.soft, record_.limit
        );
    }
    return source_ == nullptr ? Result<>() : check_daemon_source(main_pid, *source_);
}

// Until it says that it waits, or has outlived the time that one needs to fail.
void ShareBringUp::settle(Microseconds left) {
    if (context_.log != nullptr) context_.log->drain();
    if (waits() || left == 0) return confirm();
    const auto step = std::min(left, kListen);
    arm(step, [this, left, step] { settle(left - step); });
}

void ShareBringUp::on_log(const LogLine& line) {
    if (heard_.size() < kMostHeard) heard_.push_back(line);
}

// It said that it waits for its client, or has it.
bool ShareBringUp::waits() const {
    return std::ranges::any_of(heard_, [this](const LogLine& line) {
        const auto hint = read_log_line(line.text);
        return line.invocation == up_.invocation &&
               (hint == LogHint::Waiting || hint == LogHint::Connected);
    });
}

std::string ShareBringUp::last_error(const UnitState& unit) const {
    std::string last;
    for (const auto& line : heard_) {
        const auto hint = read_log_line(line.text);
        const bool is_error = hint == LogHint::Error || hint == LogHint::ProtocolError;
        if (is_error && (unit.invocation.empty() || line.invocation == unit.invocation))
            last = line.text;
    }
    return std::string(trim(last));
}

void ShareBringUp::confirm() {
    systemd_ = context_.systemd.read_unit(service_, [this](Result<UnitState> unit) {
        if (!unit) return finish(not_started(unit.error().message()));
        if (unit->is_gone() || unit->main_pid != up_.main_pid) return died(*unit);
        finish(up_);
    });
}

void ShareBringUp::died(const UnitState& unit) {
    arm(kLastWords, [this, unit] {
        if (context_.log != nullptr) context_.log->drain();
        const ExitQuestion question{
            .unit = unit, .protocol_error_logged = false, .error_logged = true
        };
        const auto how = describe_exit(classify_exit(question), unit);
        const auto why = last_error(unit);
        finish(not_started(why.empty() ? how : fmt::format("{}: {}", how, why)));
    });
}

void ShareBringUp::finish(Result<Up> result) {
    deadline_.reset();
    timer_.reset();
    systemd_.reset();
    const auto done = std::move(done_);
    done(std::move(result)); // `this` may be gone now
}

} // namespace thaw::sharesd
