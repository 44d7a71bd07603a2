// SPDX-License-Identifier: MIT
#include "failure.hpp"

#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "no_space.hpp"

#include <sys/wait.h>

#include <array>
#include <cstring>
#include <utility>

namespace thaw::restore {

namespace error = restore1::error;

Failure image_failure(const Error& e) {
    std::string_view name = error::kImageInvalid;
    if (e.code() == ENOENT) name = error::kNoSuchImage;
    if (e.code() == ESTALE) name = error::kImageMismatch;
    return {.name = name, .message = e.message(), .timed_out = e.code() == ETIMEDOUT};
}

namespace {

// Nobody answered: asking once more may help. Anything else was said by the daemon itself.
bool is_unanswered(const Error& e) {
    if (!e.bus_name().empty()) return false;
    // Of systemd and the bus: the daemon could not be started.
    for (const char* starter : {"org.freedesktop.systemd1.", "org.freedesktop.DBus.Error.Spawn."})
        if (e.message().starts_with(starter)) return true;
    switch (e.code()) {
    case ETIMEDOUT:    // NoReply, Timeout
    case EHOSTUNREACH: // ServiceUnknown
    case ENXIO:        // NameHasNoOwner
    case ECONNRESET:   // Disconnected
    case ENOTCONN:     // ... before it was sent
        return true;
    default:
        return false;
    }
}

} // namespace

Failure pager_failure(const Error& e) {
    return {
        .name = is_unanswered(e) ? error::kPagerUnavailable : error::kPagerFailed,
        .message = e.message(),
    };
}

Failure shares_failure(const Error& e) {
    return {
        .name = is_unanswered(e) ? error::kSharesUnavailable : error::kShareFailed,
        .message = e.message(),
    };
}

Failure file_failure(const Error& e) {
    const bool full = is_no_space(e);
    return {
        .name = full ? error::kNoSpace : error::kUnitStartFailed,
        .message = e.message(),
    };
}

Failure session_failure(const SessionFailure& session) {
    std::string text = session.name.empty() ? "pager session failed" : session.name;
    if (!session.message.empty()) text += ": " + session.message;
    return {.name = error::kPagerFailed, .message = std::move(text)};
}

namespace {

// What systemd says by an exit status when it could not get as far as the program
// (systemd.exec(5), "Process Exit Codes"); those that units like ours can meet.
constexpr std::array kStartStatusNames{
    std::pair{200, std::string_view("CHDIR")},
    std::pair{203, std::string_view("EXEC")},
    std::pair{205, std::string_view("LIMITS")},
    std::pair{206, std::string_view("OOM_ADJUST")},
    std::pair{208, std::string_view("STDIN")},
    std::pair{209, std::string_view("STDOUT")},
    std::pair{213, std::string_view("IOPRIO")},
    std::pair{214, std::string_view("CPUAFFINITY")},
    std::pair{216, std::string_view("GROUP")},
    std::pair{217, std::string_view("USER")},
    std::pair{218, std::string_view("CAPABILITIES")},
    std::pair{219, std::string_view("CGROUP")},
    std::pair{225, std::string_view("NETWORK")},
    std::pair{226, std::string_view("NAMESPACE")},
    std::pair{227, std::string_view("NO_NEW_PRIVILEGES")},
    std::pair{228, std::string_view("SECCOMP")},
    std::pair{233, std::string_view("RUNTIME_DIRECTORY")},
    std::pair{238, std::string_view("STATE_DIRECTORY")},
    std::pair{243, std::string_view("CREDENTIALS")},
};

std::string status_name(int status) {
    for (const auto& [known, name] : kStartStatusNames)
        if (known == status) return fmt::format("/{}", name);
    return "";
}

} // namespace

std::string describe_unit_end(const UnitState& unit) {
    std::string text = fmt::format("the VM's unit ended: {}", unit.result);
    if (unit.exec_main_code == CLD_EXITED)
        text += fmt::format(
            ", exit status {}{}", unit.exec_main_status, status_name(unit.exec_main_status)
        );
    else if (unit.exec_main_code == CLD_KILLED || unit.exec_main_code == CLD_DUMPED) {
        const char* signal = sigabbrev_np(unit.exec_main_status);
        text += signal != nullptr ? fmt::format(", signal {}", signal)
                                  : fmt::format(", signal number {}", unit.exec_main_status);
    }
    return text;
}

namespace {

// The pager only tells what the unit's end tells better.
bool is_about_the_vmm(const SessionFailure& session) {
    return session.name == pager1::error::kVmmExited;
}

bool yields_to_pager(const Failure& first) {
    return first.name == error::kLoadFailed || first.name == error::kLoadTimeout ||
           first.name == error::kResumeFailed || first.name == error::kProofFailed ||
           first.name == error::kVmmDied || first.connection_lost;
}

} // namespace

bool wants_unit_end(const Failure& first, const std::optional<SessionFailure>& session) {
    return first.connection_lost || (session && is_about_the_vmm(*session));
}

Failure decide(
    const Failure& first, const std::optional<UnitState>& ended,
    const std::optional<SessionFailure>& session
) {
    if (session && !is_about_the_vmm(*session) && yields_to_pager(first)) {
        auto cause = session_failure(*session);
        cause.message += fmt::format(" (then: {})", first.message);
        return cause;
    }
    const bool only_the_end =
        first.connection_lost || (session && first.name == error::kPagerFailed);
    if (ended && only_the_end) {
        return {
            .name = error::kVmmDied,
            .message = fmt::format("{} ({})", describe_unit_end(*ended), first.message),
        };
    }
    return first;
}

} // namespace thaw::restore
