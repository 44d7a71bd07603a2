// SPDX-License-Identifier: MIT
#pragma once

// One VM's memory, served until the VMM is dead. There is no first start and no take-over: every
// worker does what an adopter does, which on a fresh session finds nothing to make up for.

#include "control_channel.hpp"
#include "core/error.hpp"
#include "engine_choice.hpp"
#include "fault_handler.hpp"
#include "page_source.hpp"

#include <string>

namespace thaw::worker {

struct WorkerOptions {
    EngineChoice engine = EngineChoice::Auto;
    std::string control_path;       // where brokers listen
    std::string pressure_directory; // instead of /proc/pressure; empty: the host's
};

// Receives Start on `channel` and serves. Returns when the VMM is dead or the broker may and does
// say Quit. An Error means that this worker cannot go on; the session is another one's then.
Result<> run_worker(Fd channel, const WorkerOptions& options);

} // namespace thaw::worker
