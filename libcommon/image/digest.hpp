// SPDX-License-Identifier: MIT
#pragma once

// XXH3-128 of content that comes in pieces: what FileRecord::digest says of a file.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

struct XXH3_state_s;

namespace thaw::image {

class Digest {
public:
    using Bytes = std::array<std::uint8_t, 16>; // the canonical form, most significant byte first

    Digest(); // throws std::bad_alloc only
    void add(std::span<const std::byte> piece);
    Bytes bytes() const; // of all that was added so far
    std::string hex() const;

private:
    struct Free {
        void operator()(XXH3_state_s* state) const;
    };
    std::unique_ptr<XXH3_state_s, Free> state_;
};

} // namespace thaw::image
