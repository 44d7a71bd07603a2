// SPDX-License-Identifier: MIT

#include "exit_codes.hpp"

#include "api/diskguard1.hpp"
#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "api/shares1.hpp"
#include "api/source_errors.hpp"
#include "protocol/rootfs_control.hpp"

#include <optional>

namespace thaw::ctl {

namespace {

// What our own daemons say; an errno may stand for several of them.
std::optional<int> exit_code_of_name(std::string_view name) {
    namespace restore = restore1::error;
    namespace pager = pager1::error;
    namespace shares = shares1::error;
    if (name == protocol::rootfs_error::kNotRunning) return kExitNotFound;
    if (name == restore::kNoSuchInstance || name == restore::kNoSuchImage ||
        name == restore::kNoSuchJob || name == pager::kNoSuchSession ||
        name == shares::kNoSuchShare || name == shares::kSourceMissing ||
        name == diskguard1::error::kNoSuchVolume)
        return kExitNotFound;
    if (name == shares::kSourceNotAllowed || name == shares::kChurningCache ||
        name == source_error::kCredentials)
        return kExitDenied;
    if (name == shares::kDaemonUnavailable) return kExitUnavailable;
    if (name == kErrorAccessDenied || name == kErrorInteractiveAuthorizationRequired)
        return kExitDenied;
    if (name == restore::kPagerUnavailable || name == pager::kSafeMode ||
        name == pager::kBrokerStopped || name == source_error::kUnreachable)
        return kExitUnavailable;
    if (name == restore::kLoadTimeout || name == pager::kHandshakeTimeout ||
        name == diskguard1::error::kTimeout || name == source_error::kTimeout)
        return kExitTimeout;
    if (name == restore::kCanceled || name == source_error::kCanceled) return kExitCanceled;
    if (name.starts_with("org.thaw.")) return kExitFailure;
    return std::nullopt;
}

template <class Table>
std::string_view find_name(const Table& table, std::string_view name) {
    for (const auto& row : table)
        if (row.name == name) return row.name;
    return {};
}

} // namespace

int exit_code_of(const Error& error) {
    if (const auto code = exit_code_of_name(error.bus_name())) return *code;
    switch (error.code()) {
    case ENOENT:
    case ENXIO:
        return kExitNotFound;
    case EACCES:
    case EPERM:
        return kExitDenied;
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOTCONN:
        return kExitUnavailable;
    case ETIMEDOUT:
    case ETIME:
        return kExitTimeout;
    case ECANCELED:
        return kExitCanceled;
    default:
        return kExitFailure;
    }
}

std::string short_error_name(std::string_view bus_name) {
    const auto dot = bus_name.rfind('.');
    return std::string(dot == std::string_view::npos ? bus_name : bus_name.substr(dot + 1));
}

Error job_error(std::string_view bus_name, const std::string& message, std::string_view result) {
    int code = EIO;
    if (result == "timeout") code = ETIMEDOUT;
    if (result == "canceled") code = ECANCELED;
    auto name = find_name(restore1::kErrors, bus_name);
    if (name.empty()) name = find_name(pager1::kErrors, bus_name);
    const auto word = bus_name.empty() ? std::string(result) : short_error_name(bus_name);
    // The result word decides where it is more telling than the name.
    if (code != EIO) name = {};
    return {name, code, message.empty() ? word : word + ": " + message};
}

} // namespace thaw::ctl
