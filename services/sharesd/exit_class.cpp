// SPDX-License-Identifier: MIT
#include "exit_class.hpp"

#include "api/shares1.hpp"

#include <signal.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace thaw::sharesd {

namespace {

// A sandboxed virtiofsd is two processes; the outer one exits with the negative number of the
// signal that killed the inner one. Only signals that kill a daemon count: other statuses up there
// are systemd's own (203: there is nothing to run).
constexpr int kStatusValues = 256;
constexpr std::array kDeadly{SIGILL,  SIGTRAP, SIGABRT, SIGBUS, SIGFPE,
                             SIGKILL, SIGSEGV, SIGTERM, SIGSYS};

int signal_of(const UnitState& unit) {
    if (unit.exec_main_code == CLD_KILLED || unit.exec_main_code == CLD_DUMPED)
        return unit.exec_main_status;
    const int negative = kStatusValues - unit.exec_main_status;
    const bool coded =
        unit.exec_main_code == CLD_EXITED && std::ranges::find(kDeadly, negative) != kDeadly.end();
    return coded ? negative : 0;
}

struct Hint {
    std::string_view part;
    LogHint hint;
};
// Parts of the lines of the C and the Rust daemon, more specific ones first.
constexpr std::array kHints{
    Hint{"Waiting for vhost-user socket connection", LogHint::Waiting},
    Hint{"Client connected", LogHint::Connected},
    Hint{"Received vhost-user socket connection", LogHint::Connected},
    Hint{"Client disconnected", LogHint::Disconnected},
    Hint{"No more file descriptors available", LogHint::Exhausted},
    Hint{"disabling file handles", LogHint::HandlesOff},
    Hint{"does not support file handles", LogHint::HandlesOff},
    Hint{"Waiting for daemon failed", LogHint::ProtocolError},
    Hint{"vu_panic", LogHint::ProtocolError},
    Hint{"fv_panic", LogHint::ProtocolError},
    Hint{"ERROR", LogHint::Error},
};

} // namespace

LogHint read_log_line(std::string_view line) {
    for (const auto& hint : kHints)
        if (line.find(hint.part) != std::string_view::npos) return hint.hint;
    return LogHint::None;
}

ExitClass classify_exit(const ExitQuestion& question) {
    const auto& unit = question.unit;
    if (unit.result == "oom-kill") return ExitClass::OutOfMemory;
    if (unit.was_stopped()) return ExitClass::Stopped;
    if (const int signal = signal_of(unit); signal != 0) {
        if (signal == SIGSYS) return ExitClass::Seccomp;
        // An admin's stop that did not wait for the daemon's own answer to it.
        if (signal == SIGTERM) return ExitClass::Stopped;
        return ExitClass::Signal;
    }
    if (unit.exec_main_status == 0) {
        if (question.protocol_error_logged) return ExitClass::ProtocolError;
        // Systemd keeps nothing of a unit that ended well and that it has forgotten since.
        return ExitClass::PeerGone;
    }
    if (question.protocol_error_logged) return ExitClass::ProtocolError;
    // virtiofsd answers SIGTERM with status 1, and its own errors too, but those it tells.
    if (unit.exec_main_status == 1 && !question.error_logged)
        return question.is_mute ? ExitClass::Signal : ExitClass::Stopped;
    return question.was_connected ? ExitClass::ExitCode : ExitClass::StartFailed;
}

std::string describe_exit(ExitClass exit, const UnitState& unit) {
    if (const int signal = signal_of(unit); signal != 0) {
        const char* name = sigabbrev_np(signal);
        return fmt::format(
            "killed by {}",
            name != nullptr ? "SIG" + std::string(name) : fmt::format("signal {}", signal)
        );
    }
    if (exit == ExitClass::Signal) return "killed in its sandbox, this virtiofsd does not say how";
    if (exit == ExitClass::Stopped && unit.was_stopped()) return "stopped";
    if (exit == ExitClass::PeerGone) return "its VMM disconnected";
    if (exit == ExitClass::ProtocolError) return "it met a message it cannot accept";
    return fmt::format("exited with status {}", unit.exec_main_status);
}

std::string_view error_of(ExitClass exit) {
    switch (exit) {
    case ExitClass::ProtocolError:
        return shares1::error::kProtocolError;
    case ExitClass::Seccomp:
        return shares1::error::kSeccompKill;
    case ExitClass::OutOfMemory:
        return shares1::error::kOutOfMemory;
    case ExitClass::Signal:
        return shares1::error::kDaemonKilled;
    case ExitClass::StartFailed:
        return shares1::error::kStartFailed;
    case ExitClass::ExitCode:
        return shares1::error::kDaemonFailed;
    case ExitClass::None:
    case ExitClass::PeerGone:
    case ExitClass::Stopped:
        break;
    }
    return {};
}

Follow after_exit(const FollowQuestion& question) {
    switch (question.exit) {
    case ExitClass::None:
    case ExitClass::Stopped:
        return {.step = NextStep::End};
    case ExitClass::PeerGone:
        // A guest that reboots: its VMM is back at once.
        return {.step = question.reconnectable ? NextStep::Restart : NextStep::End};
    case ExitClass::StartFailed:
        // The same settings would fail again.
        return {.step = NextStep::Fail};
    case ExitClass::ProtocolError:
    case ExitClass::Seccomp:
    case ExitClass::OutOfMemory:
    case ExitClass::Signal:
    case ExitClass::ExitCode:
        break;
    }
    if (!question.reconnectable) return {.step = NextStep::Fail};
    if (question.restarts >= question.limit) return {.step = NextStep::Fail, .limit_hit = true};
    constexpr std::uint64_t kMostDoublings = 20;
    const auto doublings = std::min(question.restarts, kMostDoublings);
    return {
        .step = NextStep::Restart,
        .delay = std::min(question.first_delay << doublings, question.longest_delay),
        .counts = true,
    };
}

} // namespace thaw::sharesd
