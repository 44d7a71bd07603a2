// SPDX-License-Identifier: MIT
#pragma once

// The last argument of most methods, `t flags`: bits that nobody knows yet are refused, so that a
// later version may give them a meaning.

#include "bus/errors.hpp"
#include "bus/message.hpp"

#include <cstdint>

namespace thaw {

// InvalidArgs when `flags` holds more than `known`.
inline Result<> check_flags(std::uint64_t flags, std::uint64_t known = 0) {
    if ((flags & ~known) == 0) return {};
    return fail_named(kErrorInvalidArgs, EINVAL, "unknown flags {:#x}", flags & ~known);
}

// Reads the argument at the cursor and checks it.
inline Result<std::uint64_t> read_flags(BusMessage& message, std::uint64_t known = 0) {
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("t", &flags));
    THAW_CHECK(check_flags(flags, known));
    return flags;
}

} // namespace thaw
