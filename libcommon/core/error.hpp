// SPDX-License-Identifier: MIT
#pragma once

// The error value of the whole project.
//
// An Error is a *documented outcome* of a function (no such unit, no space, bad input): the caller
// handles it or passes it on with context. It carries a positive errno, optionally the D-Bus error
// name that a bus caller shall see, and a message for people that reads "outer: inner".
// Functions that return an Error do not log it; whoever decides what happens next logs once.
//
// Broken invariants are not Errors: they end the process (thaw::invariant()), systemd restarts it.

#include <fmt/format.h>

#include <cerrno>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace thaw {

class [[nodiscard]] Error {
public:
    // errno_value is positive; message says what was being done, without a final full stop.
    Error(int errno_value, std::string message)
        : errno_value_(errno_value), message_(std::move(message)) {}

    // bus_name must point to static storage (a constant of api/*.hpp).
    Error(std::string_view bus_name, int errno_value, std::string message)
        : errno_value_(errno_value), bus_name_(bus_name), message_(std::move(message)) {}

    int code() const noexcept { return errno_value_; }
    // D-Bus error name, empty when none was given (bus/errors.hpp then derives one from code()).
    std::string_view bus_name() const noexcept { return bus_name_; }
    const std::string& message() const noexcept { return message_; }

    // "outer: inner"; keeps errno and name.
    Error with_context(std::string_view outer) &&;
    // Gives the error a bus name if it has none yet; keeps an existing one.
    Error with_bus_name(std::string_view bus_name) &&;

private:
    int errno_value_;
    std::string_view bus_name_;
    std::string message_;
};

template <class T = void>
using Result = std::expected<T, Error>;

// Failure with a text of its own: fail(EINVAL, "bad size {}", n).
template <class... Args>
std::unexpected<Error> fail(int errno_value, fmt::format_string<Args...> text, Args&&... args) {
    return std::unexpected(Error(errno_value, fmt::format(text, std::forward<Args>(args)...)));
}

// Failure of a system call: appends the text of errno_value, "open /x: Permission denied".
template <class... Args>
std::unexpected<Error>
fail_errno(int errno_value, fmt::format_string<Args...> text, Args&&... args);

// Failure that a bus caller sees under a name of its own.
template <class... Args>
std::unexpected<Error> fail_named(
    std::string_view bus_name, int errno_value, fmt::format_string<Args...> text, Args&&... args
) {
    return std::unexpected(
        Error(bus_name, errno_value, fmt::format(text, std::forward<Args>(args)...))
    );
}

// "Permission denied" for EACCES; thread safe.
std::string errno_text(int errno_value);

template <class... Args>
std::unexpected<Error>
fail_errno(int errno_value, fmt::format_string<Args...> text, Args&&... args) {
    return std::unexpected(Error(
        errno_value, fmt::format(text, std::forward<Args>(args)...) + ": " + errno_text(errno_value)
    ));
}

// Ends the process when a condition that the code itself guarantees does not hold.
[[noreturn]] void invariant_failed(const char* what, const char* file, int line) noexcept;
#define THAW_INVARIANT(condition)                                                                  \
    ((condition) ? static_cast<void>(0) : ::thaw::invariant_failed(#condition, __FILE__, __LINE__))

// Early return of an error. THAW_TRY(auto fd, open_file(path, O_RDONLY)); THAW_CHECK(write(...));
#define THAW_CONCAT_IMPL(a, b) a##b
#define THAW_CONCAT(a, b) THAW_CONCAT_IMPL(a, b)
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses.
#define THAW_TRY(declaration, expression)                                                          \
    auto THAW_CONCAT(thaw_result_, __LINE__) = (expression);                                       \
    if (!THAW_CONCAT(thaw_result_, __LINE__))                                                      \
        return std::unexpected(std::move(THAW_CONCAT(thaw_result_, __LINE__)).error());            \
    declaration = std::move(*THAW_CONCAT(thaw_result_, __LINE__))
// NOLINTEND(bugprone-macro-parentheses)
#define THAW_CHECK(expression)                                                                     \
    if (auto thaw_check_ = (expression); !thaw_check_)                                             \
    return std::unexpected(std::move(thaw_check_).error())

} // namespace thaw
