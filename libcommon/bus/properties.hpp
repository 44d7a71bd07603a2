// SPDX-License-Identifier: MIT
#pragma once

// Walking an a{sv}, the form of properties and of options.

#include "bus/message.hpp"

#include <string_view>

namespace thaw {

// Calls handler(name) for each entry with the cursor on its variant, which the handler reads or
// skips; it returns Result<>. The text of `name` belongs to the message. Ends at the first failure.
template <class Handler>
Result<> for_each_property(BusMessage& message, Handler&& handler) {
    THAW_CHECK(message.enter_container('a', "{sv}"));
    while (true) {
        THAW_TRY(const bool more, message.enter_container('e', "sv"));
        if (!more) return message.exit_container();
        const char* name = nullptr;
        THAW_CHECK(message.read("s", &name));
        THAW_CHECK(handler(std::string_view(name)));
        THAW_CHECK(message.exit_container());
    }
}

} // namespace thaw
