// SPDX-License-Identifier: MIT
#pragma once

// The part of a call that says where the bytes are that are not at hand.

#include "bus/message.hpp"
#include "core/fd.hpp"
#include "remote_memory.hpp"

#include <optional>
#include <string_view>

namespace thaw::pagerd {

// One of PREFIXUrl s, PREFIXETag s, PREFIXModified s and PREFIXLength t, whose variant is at the
// cursor. false: not one of these. Without a URL they describe a file that came with the call.
Result<bool> read_remote_option(
    BusMessage& message, std::string_view key, std::string_view prefix,
    std::optional<RemoteMemory>& remote
);
// InvalidArgs unless it is complete: what is fetched is served only because it can be checked
// against `map`, and is known by an id.
Result<> check_remote_memory(const RemoteMemory& remote, const Fd& map, bool has_id);

} // namespace thaw::pagerd
