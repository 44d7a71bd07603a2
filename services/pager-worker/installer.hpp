// SPDX-License-Identifier: MIT
#pragma once

// The ioctls that put pages into the VMM. Each is one system call; what its answer means is
// judge_fill()'s. Nothing here decides or retries.

#include "core/error.hpp"
#include "fill_decision.hpp"

#include <cstddef>
#include <cstdint>

namespace thaw::worker {

struct FillResult {
    FillOutcome outcome = FillOutcome::Done;
    int errno_value = 0;    // 0 with Done
    std::uint64_t done = 0; // bytes installed, also by a partial fill
};

enum class CopyMode {
    Plain,
    Protected,       // write-protected from the start; EINVAL where writes are not watched
    ProtectedAsleep, // and who waits for it sleeps on
};

class Installer {
public:
    // `uffd` stays the caller's; `record`, in the session memory, is where the kernel writes down
    // what copy() did.
    Installer(int uffd, protocol::CopyRecord& record);

    FillResult
    copy(std::uint64_t address, const std::byte* source, std::uint64_t length, CopyMode mode) const;
    FillResult zero(std::uint64_t address, std::uint64_t length) const; // 4 KiB pages only
    // Write-protects what is there; ENOENT where writes are not watched.
    FillResult protect(std::uint64_t address, std::uint64_t length) const;
    // Lifts it and wakes who waits to write.
    FillResult unprotect(std::uint64_t address, std::uint64_t length) const;
    // Has writes watched as well as missing pages, whatever the VMM asked for; 0 or errno.
    int watch_writes(std::uint64_t address, std::uint64_t length) const;
    FillResult poison(std::uint64_t address, std::uint64_t length) const;
    // Lets every thread that waits in the range try again. Harmless at any time.
    bool wake(std::uint64_t address, std::uint64_t length) const;
    bool can_poison() const { return can_poison_; }

private:
    FillResult set_protection(std::uint64_t address, std::uint64_t length, bool on) const;
    int uffd_;
    protocol::CopyRecord& record_;
    bool can_poison_;
};

} // namespace thaw::worker
