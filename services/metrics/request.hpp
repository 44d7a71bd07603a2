// SPDX-License-Identifier: MIT
#pragma once

// The little HTTP that a scraper speaks. Pure; what comes in is hostile.

#include <cstddef>
#include <string>
#include <string_view>

namespace thaw::metrics {

inline constexpr std::size_t kMaxRequest = 8 << 10;

enum class Verdict {
    Incomplete, // the end of the headers has not come yet
    Metrics,    // GET of / or /metrics
    NotFound,   // another path
    BadMethod,  // another method
    Bad,        // no HTTP, or too long
};
Verdict judge_request(std::string_view received);

// A whole answer; the connection is closed after it.
std::string make_response(Verdict verdict, std::string_view body);

} // namespace thaw::metrics
