// SPDX-License-Identifier: MIT
#pragma once

// Faults that were taken from the kernel and are not answered yet: those to serve now, and those
// parked until a time of their own (no event will come for them).

#include "fill_decision.hpp"
#include "region_map.hpp"

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace thaw::worker {

struct Fault {
    PageLocation page;
    bool write = false;         // by somebody who waits to write
    bool is_there = false;      // and only the protection keeps it off
    std::uint64_t taken_ns = 0; // when its message was read
    std::uint64_t retry_ns = 0; // when parked: not before
    unsigned attempts = 0;
    ParkReason reason = ParkReason::Busy;
};

class FaultQueue {
public:
    void add(const Fault& fault) { pending_.push_back(fault); }
    // The next one to serve; parked ones whose time has come go first: they have waited longest.
    std::optional<Fault> take(std::uint64_t now);
    // Counts the attempt and puts the fault away until its delay is over.
    void park(Fault fault, ParkReason reason, std::uint64_t now);
    // Parks what is still to serve with the same deadline as `like` has: when the VMM is busy
    // unmapping every fill meets the same answer.
    void park_pending(const Fault& like);
    bool has_pending() const { return !pending_.empty(); }

    std::size_t parked() const { return parked_.size(); }
    bool waits_for_source() const;
    // Earliest retry_ns, kNever when nothing is parked.
    std::uint64_t next_deadline() const;
    // Smallest taken_ns of all, 0 when empty.
    std::uint64_t oldest() const;

private:
    std::deque<Fault> pending_;
    std::vector<Fault> parked_; // few: at most one per thread of the guest
};

} // namespace thaw::worker
