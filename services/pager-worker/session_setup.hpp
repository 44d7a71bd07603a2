// SPDX-License-Identifier: MIT
#pragma once

// From the broker's first message to a session that this process may serve.

#include "chunk_gate.hpp"
#include "core/error.hpp"
#include "demand_reads.hpp"
#include "log/log.hpp"
#include "page_source.hpp"
#include "protocol/session_memory.hpp"
#include "protocol/worker_control.hpp"
#include "region_map.hpp"

#include <optional>

namespace thaw::worker {

// A session whose lock is held and whose memory is allocated and, where allowed, locked.
struct OpenSession {
    protocol::StartMessage start; // `start.session` has moved on to `memory`
    protocol::SessionMemory memory;
    RegionMap regions;
    PageSource source;
    DemandReads reads;
    std::optional<protocol::ChunkMap> chunks; // of a remote image
};

// Waits for Start. ECONNRESET when the broker goes away first: there is no VM yet that this process
// would matter to.
Result<protocol::StartMessage> receive_start(int channel);

// On failure `reason` says what the broker and the admin are told.
Result<OpenSession> open_session(protocol::StartMessage start, protocol::FailureReason& reason);

// What every entry of the journal about the session says.
LogFields log_fields(const protocol::SessionMemory& memory);

} // namespace thaw::worker
