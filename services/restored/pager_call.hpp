// SPDX-License-Identifier: MIT
#pragma once

// One outstanding call to the pager broker; for the files of PagerClient only.

#include "pager_client.hpp"

#include <utility>

namespace thaw::restore {

inline constexpr Microseconds kPagerCallLimit = 5 * kUsecPerSec;
// Longer than what the broker itself waits for: its store takes up to 5 s, its barrier up to 10 s.
inline constexpr Microseconds kPagerCreateLimit = 8 * kUsecPerSec;

class PagerCall : public PagerOperation {
public:
    PagerCall(Bus& bus, Result<BusMessage> message, Bus::ReplyHandler handler, Microseconds limit)
        : slot_(bus.call(std::move(message), std::move(handler), limit)) {}

private:
    BusSlot slot_;
};

} // namespace thaw::restore
