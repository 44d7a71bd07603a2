// SPDX-License-Identifier: MIT
#pragma once

// Copies of large files by the cheapest way the file system offers.

#include "core/error.hpp"

#include <cstdint>
#include <functional>

namespace thaw::image {

// Copies all of `source` to the empty file `target`: as a reflink (FICLONE), else its data extents
// by copy_file_range(), else by read and write. Holes stay holes. progress(done, total) in bytes;
// false cancels (ECANCELED). A source that shrinks meanwhile is EIO "truncated".
Result<> copy_file(
    int source, int target, const std::function<bool(std::uint64_t, std::uint64_t)>& progress
);

} // namespace thaw::image
