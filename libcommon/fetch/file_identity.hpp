// SPDX-License-Identifier: MIT
#pragma once

// The identity of a source that is a file: what a server of HTTP would say with an ETag.

#include "core/error.hpp"
#include "protocol/fetch_control.hpp"

namespace thaw::fetch {

// Length, and a tag of inode and time of last change: another file under the name has another one,
// and so has the same file once somebody wrote to it. EINVAL: not a regular file. May block as long
// as the file system does.
Result<protocol::SourceIdentity> file_identity(int fd);

} // namespace thaw::fetch
