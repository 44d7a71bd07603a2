// SPDX-License-Identifier: MIT
#pragma once

// The directory that is shared: opened once without following a symlink, and compared later with
// what the daemon was really given.

#include "core/file.hpp"

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace thaw::sharesd {

struct Source {
    Fd directory; // O_PATH; held until the daemon was checked, so that its inode is nobody else's
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
};
// SourceMissing, SourceInvalid.
Result<Source> open_source(const std::string& path);

// Does the daemon see that very directory? Needs CAP_SYS_PTRACE. SourceChanged when it does not.
Result<> check_daemon_source(pid_t daemon, const Source& source);

// The first of these patterns (source_policy.hpp) that is a directory right in the source.
std::optional<std::string>
held_cache(const Source& source, const std::vector<std::string>& patterns);

} // namespace thaw::sharesd
