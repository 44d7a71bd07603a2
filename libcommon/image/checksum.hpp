// SPDX-License-Identifier: MIT
#pragma once

// The checksum of files whose header holds it: over the parts as if they stood one after another.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace thaw::image {

// XXH3-64. Throws std::bad_alloc only.
std::uint64_t checksum_of_parts(std::initializer_list<std::span<const std::byte>> parts);

} // namespace thaw::image
