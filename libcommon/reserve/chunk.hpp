// SPDX-License-Identifier: MIT
#pragma once

// One chunk file: what it is, what it is worth, making it. Inside the library only.

#include "core/error.hpp"
#include "reserve/measure.hpp"
#include "reserve/volume.hpp"

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace thaw::reserve {

// What the kernel says about the entry, for the pure judgement.
struct ChunkFacts {
    bool exists = false;
    mode_t mode = 0;
    unsigned links = 0;
    bool owned = false; // by the directory's owner
    std::uint64_t length = 0;
    std::uint64_t allocated = 0;
    // Bytes of extents that have the property; an extent counts once, in this order.
    std::uint64_t shared = 0;
    std::uint64_t compressed = 0;
    std::uint64_t unwritten = 0;
};

// `planned` is the length the plan gives it, 0 for a surplus chunk.
Chunk judge_chunk(unsigned index, const ChunkFacts& facts, std::uint64_t planned, Backing backing);

// Reads the facts without following links; an unreadable file (EACCES: not root) has no extents.
Result<ChunkFacts> look_at_chunk(int directory, const std::string& name);

// Makes the open file hold `length` bytes of allocated blocks: fallocate, or incompressible bytes
// when `write` or when the file system has no fallocate. Then fsync. Nothing is undone on failure.
Result<> fill_chunk(int file, std::uint64_t length, bool write);

} // namespace thaw::reserve
