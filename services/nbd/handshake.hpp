// SPDX-License-Identifier: MIT
#pragma once

// The client's side of an NBD connection until the kernel takes it: libnbd keeps its sockets to
// itself.

#include "core/error.hpp"

#include <cstdint>

namespace thaw::nbd {

struct Export {
    std::uint64_t size = 0;  // bytes
    std::uint16_t flags = 0; // of transmission, as the kernel takes them
    bool operator==(const Export&) const = default;
};

// Fixed newstyle, the default export by NBD_OPT_GO. The socket's own time limits hold. EPROTO for
// what no such server says, with its own words when it refuses.
Result<Export> shake_hands(int socket);

} // namespace thaw::nbd
