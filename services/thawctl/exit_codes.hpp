// SPDX-License-Identifier: MIT
#pragma once

// What thawctl answers its caller; documented in thawctl(1), EXIT STATUS.

#include "core/error.hpp"

#include <string>
#include <string_view>

namespace thaw::ctl {

enum ExitCode : int {
    kExitOk = 0,
    kExitFailure = 1,
    kExitUsage = 2,
    kExitNotFound = 3,
    kExitDenied = 4,
    kExitUnavailable = 5,
    kExitTimeout = 6,
    kExitCanceled = 7,
};

int exit_code_of(const Error& error);

// "LoadFailed" of "org.thaw.restore1.Error.LoadFailed".
std::string short_error_name(std::string_view bus_name);
// The error of a job: `bus_name` as the job reported it, `result` its result word.
Error job_error(std::string_view bus_name, const std::string& message, std::string_view result);

} // namespace thaw::ctl
