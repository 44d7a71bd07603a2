// SPDX-License-Identifier: MIT
#include "core/error.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace thaw {

Error Error::with_context(std::string_view outer) && {
    message_.insert(0, ": ");
    message_.insert(0, outer);
    return std::move(*this);
}

Error Error::with_bus_name(std::string_view bus_name) && {
    if (bus_name_.empty()) bus_name_ = bus_name;
    return std::move(*this);
}

std::string errno_text(int errno_value) {
    // Not strerror(): this one has no buffer to share between threads and no locale.
    if (const char* text = strerrordesc_np(errno_value)) return text;
    return fmt::format("Unknown error {}", errno_value);
}

void invariant_failed(const char* what, const char* file, int line) noexcept {
    // No allocation and no logging layer: whatever is broken may be broken there as well. stderr is
    // the journal under systemd.
    std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, what);
    std::fflush(stderr);
    std::abort();
}

} // namespace thaw
