// SPDX-License-Identifier: MIT
#pragma once

// Reads of a remote image's memory: what the broker's cache has is read at once, what it has not is
// asked of the broker, and the read waits here until the pages have landed. A broker that is dead,
// or whose answer was lost, is asked again.

#include "clock.hpp"
#include "fault_engine.hpp"
#include "protocol/chunk_map.hpp"
#include "protocol/session_memory.hpp"
#include "protocol/worker_control.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace thaw::worker {

class ChunkGate {
public:
    // `data`: the cache's memfd; it and `memory` outlive the gate.
    ChunkGate(protocol::SessionMemory& memory, int data, protocol::ChunkMap map)
        : memory_(memory), data_(data), map_(std::move(map)) {}

    // Best effort: what is lost is said again after a moment.
    using Ask = std::function<void(const protocol::WantChunkMessage&)>;
    void set_ask(Ask ask) { ask_ = std::move(ask); }
    // How many chunks ahead of a read will be wanted as well; 0: only what is asked for.
    void set_ahead(std::uint32_t chunks) { ahead_ = chunks; }

    bool is_ready(std::uint64_t offset, std::uint64_t length) const;
    // True: `target` is full. False: not all of it is there. Within one chunk (see limit()).
    Result<bool> try_read(std::uint64_t offset, std::span<std::byte> target);
    // The most of `length` bytes at `offset` that lies in one chunk.
    static std::uint64_t limit(std::uint64_t offset, std::uint64_t length);

    // Its end comes with take_ends(), now or once it has landed.
    void read(const ReadRequest& request);
    std::vector<ReadEnd> take_ends() { return std::exchange(ends_, {}); }
    bool has_ends() const { return !ends_.empty(); }

    // The broker says so; whether it is true is looked up.
    void landed(std::uint32_t chunk);
    void failed(std::uint32_t chunk, int errno_value);
    // Asks for all that waits: of a new broker, or when next_deadline() has come.
    void ask_again(std::uint64_t now);
    std::uint64_t next_deadline() const { return waiting_.empty() ? kNever : next_ask_ns_; }

private:
    void finish(const ReadRequest& request, std::int64_t result);
    void ask(std::uint64_t chunk);

    protocol::SessionMemory& memory_;
    int data_;
    protocol::ChunkMap map_;
    Ask ask_;
    std::uint32_t ahead_ = 0;
    std::multimap<std::uint64_t, ReadRequest> waiting_; // by chunk
    std::vector<ReadEnd> ends_;
    std::uint64_t next_ask_ns_ = 0;
};

} // namespace thaw::worker
