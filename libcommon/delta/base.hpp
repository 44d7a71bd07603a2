// SPDX-License-Identifier: MIT
#pragma once

// What a difference lies over.

#include "delta/format.hpp"
#include "delta/writer.hpp"

namespace thaw::delta {

// Reads all of a regular file: XXH3-128 of its content. EBADMSG for anything but a regular file.
Result<BaseReference> reference_of(int fd, const Progress& progress);

// ESTALE unless the file is what `wanted` names; reads all of it. ENOTSUP where it names an image's
// id, which no file can be compared with.
Result<> check_base(int fd, const BaseReference& wanted, const Progress& progress);

} // namespace thaw::delta
