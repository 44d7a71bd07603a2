// SPDX-License-Identifier: MIT
#pragma once

// What every target has: one input. Linked with libFuzzer it looks for inputs that crash, hang or
// break a promise (abort); linked with replay.cpp it goes through the corpus, as a plain test.

#include <cstddef>
#include <cstdint>

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace thaw::fuzz {

// Ends the process when a promise does not hold.
inline void require(bool promise) {
    if (!promise) __builtin_trap();
}

} // namespace thaw::fuzz
