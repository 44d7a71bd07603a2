// SPDX-License-Identifier: MIT
#pragma once

// Whether a descriptor that a VMM handed over is a userfaultfd a worker can serve.

#include "core/fd.hpp"
#include "region_list.hpp"

#include <vector>

namespace thaw::pagerd {

// Makes the descriptor non-blocking (userfaultfd polls POLLERR otherwise). DescriptorsInvalid when
// it is something else or was never initialised with UFFDIO_API; UffdUnsupported for features that
// take faults away from a reader or bring messages nobody can answer (SIGBUS, EVENT_FORK).
Result<> check_userfaultfd(int fd, const std::vector<GuestRegion>& regions);

// Whether whoever has that memory has ended, for want of a pidfd. False when it cannot be told.
bool has_lost_its_memory(int userfault);

} // namespace thaw::pagerd
