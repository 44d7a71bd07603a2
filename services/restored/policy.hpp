// SPDX-License-Identifier: MIT
#pragma once

// The circuit breakers: set by configuration, changed at run time, kept over a restart of the
// manager (not over a reboot). They apply to restores that begin afterwards.

#include "config.hpp"

#include <string>
#include <string_view>

namespace thaw::restore {

struct Policy {
    Backend memory_backend = Backend::Auto;
    bool prefetch = true;
    bool recording = true;
    bool operator==(const Policy&) const = default;
};

Policy policy_of(const Config& config);
std::string format_policy(const Policy& policy);
// "MemoryBackend=uffd (configured: auto), ..."; empty when they are the same.
std::string describe_difference(const Policy& kept, const Policy& configured);
// EBADMSG; a breaker that is missing keeps the value of `fallback`.
Result<Policy> parse_policy(std::string_view text, const Policy& fallback);

} // namespace thaw::restore
