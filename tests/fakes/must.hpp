// SPDX-License-Identifier: MIT
#pragma once

// For steps of a fixture without which no test of it means anything.

#include "core/error.hpp"

#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace thaw::fakes {

template <class T>
T must(Result<T> result) {
    if (!result) {
        fmt::print(stderr, "fixture: {}\n", result.error().message());
        std::abort();
    }
    return std::move(*result);
}
inline void must(const Result<>& result) {
    if (result) return;
    fmt::print(stderr, "fixture: {}\n", result.error().message());
    std::abort();
}

} // namespace thaw::fakes
