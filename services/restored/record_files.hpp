// SPDX-License-Identifier: MIT
#pragma once

// From what the pager recorded to the files beside the image: access.log and working-set.

#include "core/fd.hpp"
#include "image/store.hpp"

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace thaw::restore {

struct RecordedFiles {
    std::uint64_t pages = 0;
    std::uint64_t bytes = 0; // of memory
    bool settled = false;
};

// Keeps the pages that all of `logs` have (memfds of the pager), in the order of the first one, and
// writes both files. Reads the image's memory: call it from a thread of its own. ENODATA when no
// page is left, then nothing is written and earlier files stay; ECANCELED; ESTALE when the image is
// not the recorded one any more; EBADMSG for a damaged recording.
Result<RecordedFiles> write_recording(
    const image::Store& images, const std::string& name, const std::vector<Fd>& logs, bool settled,
    const std::atomic<bool>& canceled
);

} // namespace thaw::restore
