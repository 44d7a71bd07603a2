// SPDX-License-Identifier: MIT
#pragma once

// Whether the kernel holds a daemon's writers back. Who writes through the page cache says so with
// begin(); as long as anybody does, the threads are looked at once a second. Seen for the first
// time, and then at most every ten minutes, the journal says what to do about it
// (kWritesThrottled).
//
// The loop's own thread must not be the one that writes: it could not look while it waits.

#include "event/event.hpp"
#include "metrics/wchan_sampler.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace thaw::metrics {

class DirtyThrottle {
public:
    static constexpr Microseconds kInterval = kUsecPerSec;
    static constexpr Microseconds kReportEvery = 600 * kUsecPerSec;

    // `loop` outlives the object. A loop without room for a timer: errors of sd-event.
    static Result<std::unique_ptr<DirtyThrottle>>
    create(EventLoop& loop, Microseconds interval = kInterval);
    DirtyThrottle(const DirtyThrottle&) = delete;
    DirtyThrottle& operator=(const DirtyThrottle&) = delete;

    // Ends with its destruction; may outlive the DirtyThrottle.
    class Writing {
    public:
        Writing() = default;

    private:
        friend class DirtyThrottle;
        explicit Writing(std::shared_ptr<void> held) : held_(std::move(held)) {}
        std::shared_ptr<void> held_;
    };
    // `what` is written, for people: "the snapshot of a". From the loop's thread, as the end is.
    [[nodiscard]] Writing begin(std::string what);

    struct Counters {
        bool known = false;          // false: this kernel does not say, and the others mean nothing
        bool writing = false;        // somebody writes now
        std::uint64_t throttled = 0; // threads seen held back, one per look
        std::uint64_t looks = 0;     // while somebody wrote
    };
    Counters counters() const;
    // "unknown", "idle" or "writing".
    std::string_view state() const;

private:
    struct Shared; // with the Writings
    explicit DirtyThrottle(Microseconds interval);
    void look();
    void report(std::uint32_t threads);

    Microseconds interval_;
    WchanSampler sampler_;
    std::shared_ptr<Shared> shared_;
    EventSource timer_;
    Counters counters_;
    Microseconds reported_ = 0; // 0: never
};

} // namespace thaw::metrics
