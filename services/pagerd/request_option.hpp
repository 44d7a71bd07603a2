// SPDX-License-Identifier: MIT
#pragma once

// How the broker's methods read the options that they are called with.

#include "bus/errors.hpp"
#include "bus/message.hpp"
#include "core/fd.hpp"

#include <fcntl.h>

#include <string_view>
#include <utility>

namespace thaw::pagerd {

template <class... Args>
std::unexpected<Error> invalid(fmt::format_string<Args...> text, Args&&... args) {
    return fail_named(
        kErrorInvalidArgs, EINVAL, "{}", fmt::format(text, std::forward<Args>(args)...)
    );
}

// Reads one variant of the given basic type.
template <class T>
Result<T> read_variant(BusMessage& message, std::string_view key, const char* type) {
    THAW_TRY(const auto contents, message.peek_variant());
    if (contents != type) return invalid("option {} has type '{}', not '{}'", key, contents, type);
    THAW_CHECK(message.enter_container('v', type));
    T value{};
    THAW_CHECK(message.read(type, &value));
    THAW_CHECK(message.exit_container());
    return value;
}

// Reads the dictionary a{sh} at the cursor; target(name) is where a file of that name goes, nullptr
// for an unknown one. Descriptors are duplicated from the message.
template <class Target>
Result<> read_file_options(BusMessage& message, Target target) {
    THAW_CHECK(message.enter_container('a', "{sh}"));
    for (;;) {
        THAW_TRY(const bool more, message.enter_container('e', "sh"));
        if (!more) break;
        const char* key = nullptr;
        int borrowed = -1;
        THAW_CHECK(message.read("sh", &key, &borrowed));
        THAW_CHECK(message.exit_container());
        const std::string_view name = key;
        Fd* place = target(name);
        if (place == nullptr) return invalid("unknown file '{}'", name);
        Fd copy(::fcntl(borrowed, F_DUPFD_CLOEXEC, 0));
        if (!copy) return fail_errno(errno, "duplicate the descriptor of '{}'", name);
        *place = std::move(copy);
    }
    return message.exit_container();
}

} // namespace thaw::pagerd
