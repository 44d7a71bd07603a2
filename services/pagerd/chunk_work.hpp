// SPDX-License-Identifier: MIT
#pragma once

// What the chunk cache does with files, for the threads of the disk: each function gets all it
// needs and touches nothing of the event loop's.

#include "chunk_image.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace thaw::pagerd {

// Where a chunk stands in its files, in bytes.
struct ChunkPlace {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

// The hashes of a chunk's pages as they stand in memory.map; not compared with anything yet.
Result<std::vector<std::uint64_t>>
read_chunk_hashes(const ChunkFiles& files, image::MapReader::ListPlace place);

// Writes a chunk past the page cache: it never waits for other dirty pages to be written, and
// leaves none behind. ENOSPC and others of write().
Result<> spill_chunk(const ChunkFiles& files, ChunkPlace place);

// Reads a chunk back into memory if every page is what `hashes` says: EBADMSG otherwise, and then
// nothing was put there.
Result<>
load_chunk(const ChunkFiles& files, ChunkPlace place, const std::vector<std::uint64_t>& hashes);

// Gives the room of a chunk on disk back.
Result<> drop_spilled(const ChunkFiles& files, ChunkPlace place);

// Bytes that anybody may still use on the file system of the spill file.
Result<std::uint64_t> free_bytes(const ChunkFiles& files);

} // namespace thaw::pagerd
