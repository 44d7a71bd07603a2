// SPDX-License-Identifier: MIT
#pragma once

// Takes the place of journald: entries of the daemon under test arrive on its socket. Read on the
// loop: a full socket would hold the daemon up.

#include "core/fd.hpp"
#include "event/event.hpp"

#include <map>
#include <string>
#include <vector>

namespace thaw::testing {

using JournalEntry = std::map<std::string, std::string>;

class JournalSink {
public:
    // Binds /run/systemd/journal/socket.
    explicit JournalSink(EventLoop& loop);
    // What has arrived so far.
    const std::vector<JournalEntry>& entries();
    // Entries with this MESSAGE_ID=.
    std::vector<JournalEntry> find(std::string_view message_id);

private:
    Fd socket_;
    EventSource readable_;
    std::vector<JournalEntry> entries_;
};

} // namespace thaw::testing
