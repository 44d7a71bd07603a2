// SPDX-License-Identifier: MIT
#pragma once

// Which make of the fault engine a worker runs on.

#include "fault_engine.hpp"

namespace thaw::worker {

// Auto takes io_uring, else epoll.
enum class EngineChoice { Auto, Epoll, IoUring, IoUringPolled };

Result<std::unique_ptr<FaultEngine>> make_engine(
    EngineChoice choice, const FaultEngine::Descriptors& descriptors, const MessageRing& ring,
    MessageSink& sink
);

} // namespace thaw::worker
