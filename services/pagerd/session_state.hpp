// SPDX-License-Identifier: MIT
#pragma once

// The states of a session and which of them may follow which. Pure.

#include "core/enum_table.hpp"

#include <cstdint>

namespace thaw::pagerd {

enum class SessionState : std::uint8_t {
    Listening,   // the socket waits for the VMM
    Handshaking, // the VMM is connected and proven; its message is being read
    Serving,     // a worker answers faults
    Complete,    // every page is populated; removed pages are still answered
    Failed,      // see ErrorName; what keeps a live VMM's memory is still held
    Closed,      // over; the object is about to go
};

inline constexpr EnumTable kSessionStateNames{std::array{
    std::pair{SessionState::Listening, std::string_view("listening")},
    std::pair{SessionState::Handshaking, std::string_view("handshaking")},
    std::pair{SessionState::Serving, std::string_view("serving")},
    std::pair{SessionState::Complete, std::string_view("complete")},
    std::pair{SessionState::Failed, std::string_view("failed")},
    std::pair{SessionState::Closed, std::string_view("closed")},
}};

// Staying in a state is no transition. Closed is final; from Failed a session can only be closed.
constexpr bool may_follow(SessionState from, SessionState to) {
    using enum SessionState;
    switch (from) {
    case Listening:
        return to == Handshaking || to == Failed || to == Closed;
    case Handshaking:
        return to == Serving || to == Failed || to == Closed;
    case Serving:
        return to == Complete || to == Failed || to == Closed;
    case Complete:
        return to == Failed || to == Closed;
    case Failed:
        return to == Closed;
    case Closed:
        return false;
    }
    return false;
}

} // namespace thaw::pagerd
