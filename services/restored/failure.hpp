// SPDX-License-Identifier: MIT
#pragma once

// Why a restore failed: one error out of what several witnesses say. Pure decisions.

#include "core/error.hpp"
#include "systemd/manager_client.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace thaw::restore {

struct Failure {
    std::string_view name; // org.thaw.restore1.Error.*, static
    std::string message;
    bool timed_out = false; // a limit of ours ran out
    // The VMM's end of the connection went away: the unit's end will say more.
    bool connection_lost = false;
};

// What image::Store::open() answered, or ETIMEDOUT of a disk that hangs.
Failure image_failure(const Error& error);
// What a call to the pager answered.
Failure pager_failure(const Error& error);
// What a call to the share supervisor answered.
Failure shares_failure(const Error& error);
// A step that failed without a name of its own, e.g. a file that could not be written.
Failure file_failure(const Error& error);

struct SessionFailure {
    std::string name; // org.thaw.pager1.Error.*
    std::string message;
};
Failure session_failure(const SessionFailure& session);
// "exit-code, status 1" or "signal KILL": how a unit ended.
std::string describe_unit_end(const UnitState& unit);

// Whether it pays to wait a moment for the unit's end before deciding().
bool wants_unit_end(const Failure& first, const std::optional<SessionFailure>& session);
// The one error of the job. The pager's reason explains what the VMM then complained about, unless
// all it says is that the VMM went away; that a VMM died explains a lost connection.
Failure decide(
    const Failure& first, const std::optional<UnitState>& ended,
    const std::optional<SessionFailure>& session
);

} // namespace thaw::restore
