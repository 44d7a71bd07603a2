// SPDX-License-Identifier: MIT
#pragma once

// Looks where the process's own threads sleep in the kernel (/proc/self/task/TID/wchan), to see
// whether those that write are held back until the disk has caught up (balance_dirty_pages).
// One object, one caller at a time.

#include "core/fd.hpp"

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>

namespace thaw::metrics {

class WchanSampler {
public:
    // Threads beyond so many are not looked at: what one look costs is bounded.
    static constexpr std::size_t kMaxThreads = 256;

    // Finds out whether this kernel says where a thread sleeps, by one that sleeps for a moment.
    // Takes up to 50 ms where it does not.
    WchanSampler();
    bool known() const { return known_; }

    // How many of the threads stand in balance_dirty_pages now. No value when the kernel does not
    // say, never 0 for that. A thread that is between two sleeps counts as not there: what is
    // counted is a sample, not every wait. About 5 µs a thread.
    std::optional<std::uint32_t> throttled_threads();

private:
    void refresh_threads();
    bool known_ = false;
    std::map<pid_t, Fd> threads_; // open wchan files
};

} // namespace thaw::metrics
