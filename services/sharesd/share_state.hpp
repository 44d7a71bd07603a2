// SPDX-License-Identifier: MIT
#pragma once

// The states of a share and which may follow which.

#include "core/enum_table.hpp"

#include <string_view>

namespace thaw::sharesd {

enum class ShareState { Starting, Listening, Connected, Exhausted, Backoff, Failed, Stopped };
inline constexpr EnumTable kShareStateNames{std::array{
    std::pair{ShareState::Starting, std::string_view("starting")},
    std::pair{ShareState::Listening, std::string_view("listening")},
    std::pair{ShareState::Connected, std::string_view("connected")},
    std::pair{ShareState::Exhausted, std::string_view("exhausted")},
    std::pair{ShareState::Backoff, std::string_view("backoff")},
    std::pair{ShareState::Failed, std::string_view("failed")},
    std::pair{ShareState::Stopped, std::string_view("stopped")},
}};

// Its daemon serves or waits for its client.
constexpr bool is_up(ShareState state) {
    return state == ShareState::Listening || state == ShareState::Connected ||
           state == ShareState::Exhausted;
}
constexpr bool is_in_use(ShareState state) {
    return state == ShareState::Connected || state == ShareState::Exhausted;
}

constexpr bool may_follow(ShareState from, ShareState to) {
    using enum ShareState;
    switch (from) {
    case Starting:
        return to == Listening || to == Connected || to == Failed || to == Stopped;
    case Listening:
        return to == Connected || to == Starting || to == Backoff || to == Failed || to == Stopped;
    case Connected:
    case Exhausted:
        return to != from;
    case Backoff:
        return to == Starting || to == Failed || to == Stopped;
    case Failed:
        return to == Stopped;
    case Stopped:
        return to == Failed; // it could not be stopped
    }
    return false;
}

} // namespace thaw::sharesd
