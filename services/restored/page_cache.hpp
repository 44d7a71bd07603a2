// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace thaw::restore {

// Share of a file that is in the page cache, 0 to 1, estimated from evenly spread samples. 0 when
// the kernel does not tell (files of others).
double cached_share(int fd, std::uint64_t size);

} // namespace thaw::restore
