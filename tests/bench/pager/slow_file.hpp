// SPDX-License-Identifier: MIT
#pragma once

// A FUSE file system with one file, "disk", whose reads take 100 us and share 500 MB/s.

#include "core/error.hpp"

#include <sys/types.h>

#include <string>

namespace thaw::bench {

// A child that serves `backing` as `folder`/disk; ENOTSUP when built without libfuse3. It dies with
// its parent.
Result<pid_t> serve_slow_file(const std::string& backing, const std::string& folder);
void stop_slow_file(pid_t server);

} // namespace thaw::bench
