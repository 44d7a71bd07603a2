// SPDX-License-Identifier: MIT
#pragma once

// A full disk as a job's failure: NoSpace, with what an admin can do at once.

#include "failure.hpp"

#include <string>

namespace thaw::restore {

// By errno: ENOSPC or EDQUOT.
bool is_no_space(const Error& cause);
// `path` lies on the file system that is full. Blocks on it for a moment to see whether a reserve
// there would help.
Failure no_space(Error cause, const std::string& path);

} // namespace thaw::restore
