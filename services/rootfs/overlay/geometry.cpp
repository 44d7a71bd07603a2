// SPDX-License-Identifier: MIT
#include "overlay/geometry.hpp"

#include <cstring>

namespace thaw::rootfs {

bool all_zero(std::span<const std::byte> data) noexcept {
    constexpr std::size_t kHead = 16;
    for (std::size_t i = 0; i < kHead && i < data.size(); ++i)
        if (data[i] != std::byte{0}) return false;
    // Zero from the start, and equal to itself sixteen bytes further on: zero everywhere.
    return data.size() <= kHead ||
           std::memcmp(data.data(), data.data() + kHead, data.size() - kHead) == 0;
}

} // namespace thaw::rootfs
