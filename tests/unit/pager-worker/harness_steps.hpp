// SPDX-License-Identifier: MIT
#pragma once

// Steps of the harness without which no test means anything: they end the program.

#include "fakes/must.hpp"

#include <cstdio>
#include <cstdlib>

namespace thaw::test {

using fakes::must;

inline void must_be(bool holds, const char* what) {
    if (holds) return;
    std::perror(what);
    std::abort();
}

} // namespace thaw::test
