// SPDX-License-Identifier: MIT
#pragma once

// Decisions of the broker as pure functions of literal values. Times are µs of CLOCK_MONOTONIC.

#include "core/text.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::pagerd {

// ---- safe mode ---------------------------------------------------------------------------------

struct StartRecord {
    std::vector<Microseconds> starts; // those within the interval, this one last
    bool safe_mode = false;
};
// `earlier` comes from a file and may hold anything: times in the future are dropped. More than
// `burst` starts within `interval` are safe mode.
StartRecord record_start(
    const std::vector<Microseconds>& earlier, Microseconds now, std::size_t burst,
    Microseconds interval
);
// One decimal number per line; lines that are none are dropped.
std::vector<Microseconds> parse_starts(std::string_view text);
std::string format_starts(const std::vector<Microseconds>& starts);

// ---- replacing workers -------------------------------------------------------------------------

// Remembers when a session's workers were lost.
class RestartBudget {
public:
    RestartBudget(std::size_t limit, Microseconds window) : limit_(limit), window_(window) {}
    // A worker was lost at `now`: how long to wait before the next is started, or nothing when more
    // than `limit` were lost within the window. The first replacement starts at once: a guest
    // waits.
    std::optional<Microseconds> lost(Microseconds now);
    std::size_t total() const { return total_; }

private:
    std::size_t limit_;
    Microseconds window_;
    std::size_t total_ = 0;
    std::vector<Microseconds> recent_;
};

// ---- stuck workers -----------------------------------------------------------------------------

// What the session memory and the userfaultfd show. The memory is written by the worker and may
// hold anything.
struct FaultSigns {
    Microseconds oldest_fault = 0; // when the oldest unanswered fault was read, 0: none waits
    bool slow_source = false;      // waits for a source that is known to be slow
    bool unread = false; // messages wait in the userfaultfd or in the ring or unapplied in the ring
    std::uint64_t heartbeat = 0; // changes with each turn of the worker's loop
};

// Judges one worker over time; a new one for each worker.
class StuckDetector {
public:
    // A slow source lengthens the patience as long as the worker's heart beats; it does not end it:
    // the flag is the worker's own.
    static constexpr unsigned kSlowFactor = 15;

    // `began`: when this worker took over. Older faults are its predecessor's.
    StuckDetector(Microseconds began, Microseconds limit) : began_(began), limit_(limit) {}
    // True when a fault has waited longer than the limit, read or unread.
    bool observe(Microseconds now, const FaultSigns& signs);

private:
    Microseconds began_;
    Microseconds limit_;
    std::optional<Microseconds> unread_since_;
    std::uint64_t heartbeat_ = 0;
    std::optional<Microseconds> beat_at_; // when the heart was last seen to beat
};

// ---- descriptor store --------------------------------------------------------------------------

// Descriptors a session may have in the store at the same moment: session, replay, listen, conn,
// uffd, vmm, worker.
inline constexpr std::size_t kStoredPerSession = 7;
// Whether one more session fits beside what the present ones may still need.
bool store_has_room(
    std::size_t capacity, std::size_t sessions, std::size_t image_files, std::size_t new_files
);

// ---- stop or restart ---------------------------------------------------------------------------

// Sessions that wait for a VMM fail at a stop; a restart, or an end without any job, keeps them.
bool is_final_stop(std::string_view job_type);

} // namespace thaw::pagerd
