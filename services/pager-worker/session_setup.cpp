// SPDX-License-Identifier: MIT
#include "session_setup.hpp"

#include "core/text.hpp"
#include "sandbox.hpp"

#include <poll.h>

#include <ctime>

namespace thaw::worker {

using protocol::ControlType;
using protocol::FailureReason;
using protocol::SessionMemory;
using protocol::StartMessage;

Result<StartMessage> receive_start(int channel) {
    for (;;) {
        auto message = protocol::receive_control(channel);
        if (!message && message.error().code() == EAGAIN) {
            pollfd waiting{.fd = channel, .events = POLLIN, .revents = 0};
            ::poll(&waiting, 1, -1);
            continue;
        }
        if (!message) return std::unexpected(std::move(message).error().with_context("Start"));
        if (message->type != ControlType::Start)
            return fail(EPROTO, "the broker did not say Start");
        return std::move(message->start);
    }
}

LogFields log_fields(const SessionMemory& memory) {
    const auto& info = memory.info();
    return {
        {"THAW_INSTANCE", info.name},
        {"THAW_SESSION", hex_encode(info.session_id.data(), info.session_id.size())},
        {"THAW_IMAGE", info.image_name},
    };
}

namespace {

// The lock goes with its holder; a holder that is being killed needs a moment.
Result<> acquire_lock(SessionMemory& memory) {
    constexpr int kAttempts = 100;
    constexpr timespec kPause{.tv_sec = 0, .tv_nsec = 1'000'000};
    for (int attempt = 1;; ++attempt) {
        auto locked = memory.acquire_worker_lock();
        if (locked || locked.error().code() != EAGAIN || attempt == kAttempts) return locked;
        ::nanosleep(&kPause, nullptr);
    }
}

// What of a remote image's memory may be read.
Result<protocol::ChunkMap> open_chunks(StartMessage& start, const SessionMemory& memory) {
    if (!start.chunk_map || !start.map || start.layers)
        return fail(
            EBADMSG, "a remote image needs a chunk map and a memory.map, and has no layers"
        );
    THAW_TRY(Fd copy, start.chunk_map.duplicate());
    THAW_TRY(
        auto chunks, protocol::ChunkMap::map(std::move(copy), protocol::ChunkMap::Access::Read)
    );
    if (chunks.memory_size() != memory.info().memory_size ||
        chunks.image() != memory.info().image_id)
        return fail(EBADMSG, "the chunk map is another image's");
    return chunks;
}

} // namespace

Result<OpenSession> open_session(StartMessage start, FailureReason& reason) {
    reason = FailureReason::SessionInvalid;
    THAW_TRY(SessionMemory memory, SessionMemory::map(std::move(start.session)));
    THAW_TRY(const auto table, memory.regions());
    if (table.empty()) return fail(EBADMSG, "the session has no regions");
    RegionMap regions(table);

    reason = FailureReason::LockHeld;
    THAW_CHECK(acquire_lock(memory));
    reason = FailureReason::Resources;
    // A page of the ring that is not there when the kernel writes to it would cost a message.
    THAW_CHECK(memory.populate());

    reason = FailureReason::SessionInvalid;
    std::optional<protocol::ChunkMap> chunks;
    if ((memory.info().flags & protocol::kFlagChunked) != 0) {
        THAW_TRY(chunks, open_chunks(start, memory));
    }

    reason = FailureReason::MapDamaged;
    const PageSource::Options options{
        .memory_size = memory.info().memory_size,
        .largest_page = regions.largest_page(),
        .checked = (memory.info().flags & protocol::kFlagUnchecked) == 0,
    };
    SourceFiles files{
        .memory = start.memory.get(), .map = start.map.get(), .layers = start.layers.get()
    };
    for (const Fd& base : start.bases)
        files.bases.push_back(base.get());
    THAW_TRY(PageSource source, PageSource::open(files, memory.info().image_id, options));
    const auto lock = lock_memory(memory);
    memory.state().memory_lock.store(static_cast<std::uint32_t>(lock), std::memory_order_relaxed);
    // After the lock: the mapping is as large as the guest and would not fit RLIMIT_MEMLOCK.
    source.map_when_unchecked();
    reason = FailureReason::Resources;
    THAW_TRY(DemandReads reads, DemandReads::create(regions.largest_page()));
    reason = FailureReason::None;
    return OpenSession{std::move(start),  std::move(memory), std::move(regions),
                       std::move(source), std::move(reads),  std::move(chunks)};
}

} // namespace thaw::worker
