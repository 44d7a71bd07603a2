// SPDX-License-Identifier: MIT
#pragma once

// Which memory backend a restore uses, and why. Pure.

#include "core/error.hpp"
#include "job_state.hpp"

#include <cstdint>
#include <string>

namespace thaw::restore {

struct BackendQuestion {
    Backend requested = Backend::Auto; // the caller's wish
    Backend policy = Backend::Auto;    // the circuit breaker: what is allowed at all
    std::uint64_t page_size = 0;       // of the image
    double cached = 0;                 // share of the memory file in the page cache, 0 to 1
    bool in_use = false;               // another VM runs from the same image
    bool recorded = false;             // it has a working set to load ahead
    bool layered = false;              // it is a difference to another image
    bool remote = false;               // its memory is fetched when it is needed
    bool tracked = false;              // what the guest writes is to be noted
};

struct BackendChoice {
    Backend backend = Backend::Uffd; // never Auto
    std::string reason;              // one sentence for Job.BackendReason
};

// Below that the file mapping would read from disk page by page; the pager reads in runs.
inline constexpr double kCachedEnough = 0.9;

// BackendUnsupported when breaker, wish and image cannot be brought together: a breaker never
// loads what the other backend cannot read, it refuses.
Result<BackendChoice> choose_backend(const BackendQuestion& question);

} // namespace thaw::restore
