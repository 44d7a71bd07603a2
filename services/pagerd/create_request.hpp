// SPDX-License-Identifier: MIT
#pragma once

// CreateSession's arguments: read from the message and checked by themselves.

#include "bus/message.hpp"
#include "config.hpp"
#include "core/fd.hpp"
#include "core/text.hpp"
#include "image_table.hpp"
#include "protocol/session_memory.hpp"
#include "remote_memory.hpp"

#include <optional>

namespace thaw::pagerd {

struct CreateRequest {
    protocol::SessionInfo info; // without session_id; image_id all zero when none was given
    ImageFiles files;
    Fd working_set;                     // may be invalid
    std::optional<RemoteMemory> remote; // then there is no file `memory`
    protocol::PrefetchPolicy prefetch;
    bool track = false; // what the guest writes, from its first page on
    Microseconds handshake_timeout = 0;
};

// InvalidArgs for unknown keys, values and flags. Descriptors are duplicated from the message.
Result<CreateRequest> read_create_request(BusMessage& message, const Config& defaults);

// Reads the dictionary a{sv} at the cursor over `policy`: Prefetch b, PrefetchRate t, ReplayBudget
// t, SequentialBudget t. InvalidArgs for anything else.
Result<> read_prefetch_options(BusMessage& message, protocol::PrefetchPolicy& policy);

// Firecracker's unit, as systemd names services and scopes.
bool is_valid_vmm_unit(std::string_view unit);

} // namespace thaw::pagerd
