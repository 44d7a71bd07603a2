// SPDX-License-Identifier: MIT
#pragma once

// Asks every daemon what it shows, at the same time and without waiting.

#include "bus/bus.hpp"
#include "metrics/suite.hpp"

#include <functional>
#include <vector>

namespace thaw::metrics {

// One collection. Dropping it forgets the answers that are still to come.
class Collector {
public:
    // `done` runs once, from the event loop, when all have answered or failed to; it may destroy
    // the collector. A daemon that does not run is not started.
    Collector(Bus& bus, std::function<void(const Answers&)> done);
    Collector(const Collector&) = delete;
    Collector& operator=(const Collector&) = delete;

private:
    void ask(std::size_t index, const char* interface, const char* member, bool manager);
    void on_answer(std::size_t index, bool manager, Result<BusMessage> reply);

    Bus& bus_;
    std::function<void(const Answers&)> done_;
    Answers answers_;
    std::array<unsigned, kDaemons.size()> good_{}; // of two answers
    std::size_t missing_ = 0;
    std::vector<BusSlot> calls_;
};

} // namespace thaw::metrics
