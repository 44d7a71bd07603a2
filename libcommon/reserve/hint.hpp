// SPDX-License-Identifier: MIT
#pragma once

// One line for whoever met a full disk, when a reserve there would help.

#include "core/error.hpp"

#include <string>

namespace thaw::reserve {

// "Run 'thawctl reserve release /srv' ..." when errno_value is ENOSPC or EDQUOT and the file system
// of `path` has a reserve that would give something; else empty. By errno, never by a text. Blocks
// on that file system; writes nothing.
std::string release_hint(int errno_value, const std::string& path);
// The error with that line at its end.
Error with_release_hint(Error error, const std::string& path);

} // namespace thaw::reserve
