// SPDX-License-Identifier: MIT
#include "log/journal_backend.hpp"

// Where the call stands comes from std::source_location, not from this file's macros.
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include <sys/uio.h>

#include <vector>

namespace thaw {

bool send_to_journal(std::span<const std::string> entries) {
    std::vector<iovec> parts;
    parts.reserve(entries.size());
    for (const auto& entry : entries)
        parts.push_back({.iov_base = const_cast<char*>(entry.data()), .iov_len = entry.size()});
    return sd_journal_sendv(parts.data(), static_cast<int>(parts.size())) >= 0;
}

} // namespace thaw
