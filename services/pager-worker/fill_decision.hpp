// SPDX-License-Identifier: MIT
#pragma once

// The decisions of the fault path, without its deeds: what a page is filled with, what the answer
// of an ioctl means, how long to wait, what becomes of a page that cannot be served.

#include "protocol/session_layout.hpp"

#include <cstdint>

namespace thaw::worker {

struct PageFacts {
    bool removed = false;    // the guest gave it back: its content is gone for good
    bool image_zero = false; // memory.map says it is zero in the image
    std::uint64_t page_size = protocol::kBitPage;
};
enum class FillKind {
    Data,      // UFFDIO_COPY of the image's bytes
    ZeroPage,  // UFFDIO_ZEROPAGE
    CopyZeros, // UFFDIO_COPY of zeros: hugetlb has no ZEROPAGE
};
FillKind decide_fill(const PageFacts& facts);

// What an ioctl that fills said. `done` is the byte count that the kernel stored, negative errno
// included.
enum class FillOutcome {
    Done,
    Partial,     // advance by `done`
    Present,     // EEXIST: somebody else filled it; its waiters may sleep still, so WAKE
    Busy,        // EAGAIN: a REMOVE is under way; nothing will say when it is over
    Gone,        // ENOENT: not mapped or not registered any more
    VmmGone,     // ESRCH: the address space is dead
    NoMemory,    // ENOMEM, ENOSPC: the VM's cgroup or the huge page pool
    SourceFault, // EFAULT: the source's mapping has no bytes there
    Broken,      // anything else
};
FillOutcome judge_fill(int errno_value, std::int64_t done, std::uint64_t length);

// A huge page whose pool is empty is refused with EEXIST, as if it were there (measured on Linux
// 6.18: the kernel looks at the page table, not at the page). Waking the waiter would send it round
// in circles. A page that is there draws at most a few such answers after it was filled; one that
// keeps drawing them, from one batch of messages to the next, is missing.
class PresentStreak {
public:
    // Hears of each EEXIST; true when the page is not there for want of memory.
    bool lacks_memory(std::uint64_t address, std::uint64_t page_size, std::uint64_t batch_ns);
    void filled(std::uint64_t address);

private:
    std::uint64_t address_ = 0;
    std::uint64_t batch_ns_ = 0;
    unsigned batches_ = 0;
};

// How long a fault stays parked, by what it waits for. `attempt` counts from 1.
enum class ParkReason { Busy, Source, Memory };
std::uint64_t park_delay_ns(ParkReason reason, unsigned attempt);
// Attempts before the page counts as lost. A busy VMM is never given up: it is alive.
bool is_lost(ParkReason reason, unsigned attempts);

enum class LossAction { Poison, Park };
LossAction decide_loss(protocol::LossPolicy policy, bool kernel_can_poison);

// Index into SessionCounters::latency.
std::size_t latency_bucket(std::uint64_t latency_ns);

} // namespace thaw::worker
