// SPDX-License-Identifier: MIT
#include "image/digest.hpp"

#include "core/text.hpp"

#include <xxhash.h>

#include <algorithm>
#include <new>

namespace thaw::image {

void Digest::Free::operator()(XXH3_state_s* state) const {
    XXH3_freeState(state);
}

Digest::Digest() : state_(XXH3_createState()) {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
}

void Digest::add(std::span<const std::byte> piece) {
    XXH3_128bits_update(state_.get(), piece.data(), piece.size());
}

Digest::Bytes Digest::bytes() const {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
    Bytes bytes{};
    static_assert(sizeof canonical.digest == sizeof bytes);
    std::ranges::copy(canonical.digest, bytes.begin());
    return bytes;
}

std::string Digest::hex() const {
    const auto digest = bytes();
    return hex_encode(digest.data(), digest.size());
}

} // namespace thaw::image
