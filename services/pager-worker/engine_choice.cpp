// SPDX-License-Identifier: MIT
#include "engine_choice.hpp"

#include "log/log.hpp"

namespace thaw::worker {

Result<std::unique_ptr<FaultEngine>> make_engine(
    EngineChoice choice, const FaultEngine::Descriptors& descriptors, const MessageRing& ring,
    MessageSink& sink
) {
    if (choice == EngineChoice::Epoll) return make_epoll_engine(descriptors, ring, sink);
    const auto reads =
        choice == EngineChoice::IoUringPolled ? UringReads::Polled : UringReads::Best;
    auto engine = make_uring_engine(descriptors, ring, sink, reads);
    if (engine || choice != EngineChoice::Auto) return engine;
    log_info("io_uring is not to be had ({}); epoll is used", engine.error().message());
    return make_epoll_engine(descriptors, ring, sink);
}

} // namespace thaw::worker
