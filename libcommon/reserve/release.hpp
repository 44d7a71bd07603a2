// SPDX-License-Identifier: MIT
#pragma once

// Giving the reserve back. Works with zero free bytes and zero free inodes, makes no file it cannot
// do without, allocates little memory, and is content when there is nothing to release. The same
// code in the daemon and in thawctl, which calls it directly when there is no daemon.

#include "core/text.hpp"
#include "reserve/probe.hpp"
#include "reserve/volume.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thaw::reserve {

// An arming in another process holds the lock for one chunk; a hung one must not stop a release.
inline constexpr Microseconds kReleaseLockWait = kUsecPerSec;

struct ReleaseRequest {
    // At least so many bytes, in whole chunks; nullopt: all.
    std::optional<std::uint64_t> bytes;
    bool probe = true;
    // Hand freed blocks of a thin backing down (FITRIM, needs CAP_SYS_ADMIN); best effort.
    bool trim = true;
};

struct ReleaseReport {
    unsigned chunks = 0;                  // removed
    std::uint64_t let_go = 0;             // blocks they held
    std::uint64_t gained = 0;             // measured: more f_bfree than before
    std::uint64_t gained_available = 0;   // measured: more f_bavail; less on ext4 when root writers
                                          // have eaten the root pool, which refills first
    std::uint64_t remaining = 0;          // bytes of the chunks that are still held
    bool lock_ignored = false;            // somebody held the lock for longer than kReleaseLockWait
    std::optional<Probe> probe;           // when asked for and possible
    std::optional<std::uint64_t> trimmed; // bytes, when FITRIM ran
    std::vector<std::string> problems;    // what did not go well; the rest was done
};

// Blocks for some milliseconds (plus the lock). Fails only when nothing could be done: ESTALE,
// EPERM, EROFS, EIO of the directory. Chunks are truncated before they are unlinked, which frees
// them even while another process holds them open or another name leads to them.
Result<ReleaseReport> release(const Volume& volume, const ReleaseRequest& request = {});

} // namespace thaw::reserve
