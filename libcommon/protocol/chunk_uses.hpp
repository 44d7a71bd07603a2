// SPDX-License-Identifier: MIT
#pragma once

// When a client of the chunk cache read each chunk last: a memfd that it writes and the broker
// reads. No more than advice on what to keep: whoever lies can have his own chunks kept longer than
// those of others, or shorter, and nothing else.

#include "core/fd.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace thaw::protocol {

class ChunkUses {
public:
    // Broker: all 0 (never).
    static Result<ChunkUses> create(std::uint64_t chunk_count);
    // Client: EBADMSG for another size. Takes the descriptor over, also when it fails.
    static Result<ChunkUses> map(Fd memfd, std::uint64_t chunk_count);
    ChunkUses(ChunkUses&& other) noexcept;
    ChunkUses& operator=(ChunkUses&& other) noexcept;
    ChunkUses(const ChunkUses&) = delete;
    ChunkUses& operator=(const ChunkUses&) = delete;
    ~ChunkUses();

    Result<Fd> duplicate() const { return fd_.duplicate(); }
    // In units of 2^kChunkUseShift ns of CLOCK_MONOTONIC; 0: never.
    std::uint32_t last_use(std::uint64_t chunk) const;
    void note(std::uint64_t chunk, std::uint64_t now_ns) const;

private:
    ChunkUses() = default;
    Fd fd_;
    std::atomic<std::uint32_t>* uses_ = nullptr;
    std::uint64_t count_ = 0;
};

} // namespace thaw::protocol
