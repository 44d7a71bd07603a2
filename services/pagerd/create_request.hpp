// SPDX-License-Identifier: MIT
#pragma once

// CreateSession's arguments: read from the message and checked by themselves.

#include "bus/message.hpp"
#include "core/fd.hpp"
#include "core/text.hpp"
#include "protocol/session_memory.hpp"

namespace thaw::pagerd {

struct CreateRequest {
    protocol::SessionInfo info; // without session_id; image_id all zero when none was given
    Fd memory;
    Fd map; // may be invalid
    Microseconds handshake_timeout = 0;
};

// InvalidArgs for unknown keys, values and flags. Descriptors are duplicated from the message.
Result<CreateRequest> read_create_request(BusMessage& message, Microseconds default_timeout);

// Firecracker's unit, as systemd names services and scopes.
bool is_valid_vmm_unit(std::string_view unit);

} // namespace thaw::pagerd
