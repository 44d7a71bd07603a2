// SPDX-License-Identifier: MIT
#pragma once

#include <cstdlib>

namespace thaw::test {

// How often a kill loop kills: $THAW_TEST_KILLS, or as often as said.
inline unsigned kills_wanted(unsigned by_default) {
    const char* text = std::getenv("THAW_TEST_KILLS");
    return text == nullptr ? by_default : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

} // namespace thaw::test
