// SPDX-License-Identifier: MIT
#pragma once

// Can inodes of a source be named by file handles instead of being held open? Tried on the source
// and on every mount below it.

#include "dialect.hpp"

#include <string>

namespace thaw::sharesd {

struct HandleProbe {
    bool root = false;   // on the source itself
    bool mounts = false; // on all mounts below it as well
    std::string reason;  // of the first failure, empty without one
};
// `source` may be an O_PATH descriptor; `path` is where it is mounted. Needs CAP_DAC_READ_SEARCH.
HandleProbe probe_handles(int source, const std::string& path);

struct HandleChoice {
    HandleMode mode = HandleMode::Never; // never Auto
    std::string reason;                  // why not mandatory or what was asked for; may be empty
};
// HandlesUnavailable for a mandatory mode that is not to be had. Pure.
Result<HandleChoice>
choose_handles(HandleMode wanted, Dialect dialect, bool privileged, const HandleProbe& probe);

// Mount points below `path` in the text of /proc/self/mountinfo, relative to it. Pure.
std::vector<std::string> mounts_below(std::string_view mountinfo, std::string_view path);

} // namespace thaw::sharesd
