// SPDX-License-Identifier: MIT
#pragma once

#include "guest_memory.hpp"
#include "result.hpp"

namespace thaw::standin {

/// A userfaultfd as Firecracker makes it: close-on-exec, non-blocking, kernel faults included.
/// /dev/userfaultfd is tried first; the system call only when the node does not exist at all, so
/// a node that may not be opened is an error. `remove_events` asks for UFFD_FEATURE_EVENT_REMOVE,
/// the only feature ever required.
Result<Fd> create_userfault(bool remove_events);

/// Registers every region for missing pages only.
Result<void> register_missing(int userfault, const GuestMemory& memory);

} // namespace thaw::standin
