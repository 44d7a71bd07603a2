// SPDX-License-Identifier: MIT
#pragma once

// The memory of an image as one piece, whichever of its layers holds a page.

#include "image/layers.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace thaw::image {

struct OpenImage;

class MemoryReader {
public:
    // One file that holds everything. The descriptor stays the caller's.
    explicit MemoryReader(int memory_fd) : fds_{memory_fd} {}
    // `image` outlives the reader.
    explicit MemoryReader(const OpenImage& image);

    // Fills all of `target` from byte `offset` on; EIO when a file is too short.
    Result<> read(std::span<std::byte> target, std::uint64_t offset) const;

private:
    std::vector<int> fds_; // by layer
    const LayerTable* table_ = nullptr;
};

} // namespace thaw::image
