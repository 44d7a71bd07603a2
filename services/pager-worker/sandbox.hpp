// SPDX-License-Identifier: MIT
#pragma once

// What a worker gives up once it holds its descriptors.

#include "core/error.hpp"
#include "protocol/session_memory.hpp"

namespace thaw::worker {

// Locks the program and the session memory, so that the path of a fault never waits for the host's
// own memory; falls back to the session memory alone, then to nothing, where RLIMIT_MEMLOCK
// forbids.
protocol::MemoryLock lock_memory(protocol::SessionMemory& memory) noexcept;

// Not dumpable, no new privileges, and only the system calls that serving needs: no open, no exec,
// no socket, no ptrace, no pidfd_getfd, no kill. Refused calls fail with EPERM: an attacker gets
// nothing, and a mistake of ours does not take the VM along.
Result<> enter_sandbox();

} // namespace thaw::worker
