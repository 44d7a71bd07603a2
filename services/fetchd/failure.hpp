// SPDX-License-Identifier: MIT
#pragma once

// Why a try, or in the end a request, failed.

#include "protocol/fetch_control.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <expected>
#include <string>
#include <utility>

namespace thaw::fetchd {

using protocol::FetchError;
using protocol::SourceIdentity;

struct Failure {
    FetchError error{};
    int errno_value = EIO;
    bool retryable = false; // another try may go well
    std::string text{};
};
template <class T = void>
using Outcome = std::expected<T, Failure>;

// Asking again would get the same answer / may get another one.
template <class... Args>
std::unexpected<Failure>
final_failure(FetchError error, int errno_value, fmt::format_string<Args...> text, Args&&... args) {
    return std::unexpected(
        Failure{error, errno_value, false, fmt::format(text, std::forward<Args>(args)...)}
    );
}
template <class... Args>
std::unexpected<Failure> passing_failure(
    FetchError error, int errno_value, fmt::format_string<Args...> text, Args&&... args
) {
    return std::unexpected(
        Failure{error, errno_value, true, fmt::format(text, std::forward<Args>(args)...)}
    );
}

} // namespace thaw::fetchd
