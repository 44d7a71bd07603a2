// SPDX-License-Identifier: MIT
#pragma once

// The unit of the overlay: what is copied, mapped and counted.

#include <cstddef>
#include <cstdint>
#include <span>

namespace thaw::rootfs {

inline constexpr std::uint32_t kBlockSize = 4096; // the page of memory and of file systems
inline constexpr std::uint32_t kBlockShift = 12;

// Whole blocks that hold `bytes`.
constexpr std::uint64_t blocks_of(std::uint64_t bytes) {
    return bytes / kBlockSize + (bytes % kBlockSize != 0 ? 1 : 0);
}

// Are all bytes zero? The usual answer of data comes after a few bytes.
bool all_zero(std::span<const std::byte> data) noexcept;

} // namespace thaw::rootfs
