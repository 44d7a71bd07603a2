// SPDX-License-Identifier: MIT
#include "image/checksum.hpp"

#include <xxhash.h>

#include <memory>
#include <new>

namespace thaw::image {

std::uint64_t checksum_of_parts(std::initializer_list<std::span<const std::byte>> parts) {
    const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(
        XXH3_createState(), &XXH3_freeState
    );
    if (!state) throw std::bad_alloc();
    XXH3_64bits_reset(state.get());
    for (const auto part : parts)
        XXH3_64bits_update(state.get(), part.data(), part.size());
    return XXH3_64bits_digest(state.get());
}

} // namespace thaw::image
