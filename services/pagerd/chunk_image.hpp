// SPDX-License-Identifier: MIT
#pragma once

// The cached chunks of one remote image: a memfd with the bytes, the map that says which of them
// count, a file on disk for those that were pushed out of memory. No decisions here: ChunkCache
// (chunk_cache.hpp) has them.

#include "core/fd.hpp"
#include "event/disk.hpp"
#include "image/map_reader.hpp"
#include "metrics/dirty_throttle.hpp"
#include "protocol/chunk_map.hpp"
#include "protocol/session_layout.hpp"
#include "remote_memory.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace thaw::pagerd {

// Who reads from the cache: a session, or the server of a root file system. Called from the event
// loop, also from inside want().
class ChunkUser {
public:
    virtual ~ChunkUser() = default;
    virtual const std::string& image_name() const = 0;
    // Whether the chunk is being read in this moment by somebody who does not look again after.
    virtual bool is_reading(std::uint64_t chunk) const = 0;
    // When it was read last, in units of 2^kChunkUseShift ns of CLOCK_MONOTONIC; 0: never.
    virtual std::uint32_t last_use(std::uint64_t chunk) const = 0;
    virtual void chunk_landed(std::uint32_t chunk) = 0;
    // EBADMSG: what came was not what was sealed.
    virtual void chunk_failed(std::uint32_t chunk, int errno_value) = 0;
};

// Descriptors that threads of the disk use as well.
struct ChunkFiles {
    Fd data;  // memfd, read and write
    Fd index; // memory.map
    Fd spill; // O_DIRECT, no name; invalid: nothing is ever pushed to disk
};

struct Chunk {
    enum class State : std::uint8_t {
        Absent,
        Filling,  // being fetched, or read back from disk
        Whole,    // in memory
        Spilling, // in memory, being written to disk; goes then
    };
    struct Waiter {
        ChunkUser* user;
        std::uint32_t pages; // from the first on
    };
    State state = State::Absent;
    bool queued = false; // a fill waits for room
    std::vector<Waiter> waiters;
    // Who was told that it landed and has not been seen reading it since.
    std::vector<ChunkUser*> readers;
    Microseconds landed_at = 0;

    // ---- while it is being filled
    std::vector<std::uint64_t> hashes; // of its pages
    std::uint32_t verified = 0;        // pages
    unsigned corrupt = 0;              // times that what came was not what was sealed
    bool is_bad = false;               // this time
    std::uint64_t fetch = 0;           // of FetchClient; 0: none
    Microseconds begun_at = 0;
    DiskHandle disk;
    metrics::DirtyThrottle::Writing writing; // while it is written to disk
};

class ChunkImage {
public:
    // A fresh one. `index` is the image's memory.map, `directory` (may be empty) has room for a
    // file without a name.
    static Result<std::unique_ptr<ChunkImage>> create(
        std::string id, RemoteMemory remote, Fd index, std::uint64_t memory_size,
        const std::string& directory
    );
    // What an earlier broker had; chunks that were being filled are absent.
    static Result<std::unique_ptr<ChunkImage>>
    adopt(std::string id, RemoteMemory remote, ChunkFiles files, Fd map);

    const std::string& id() const { return id_; }
    // For people: the image's name once a session said it.
    const std::string& name() const { return name_.empty() ? id_ : name_; }
    void set_name(const std::string& name) { name_ = name; }
    // Where it comes from, for people.
    std::string source_name() const { return remote_.url.empty() ? "its file" : remote_.url; }
    const RemoteMemory& remote() const { return remote_; }
    protocol::ChunkMap& map() { return map_; }
    const protocol::ChunkMap& map() const { return map_; }
    const image::MapReader& hashes() const { return *index_; }
    const std::shared_ptr<const ChunkFiles>& files() const { return files_; }
    Chunk& chunk(std::uint64_t number) { return chunks_[number]; }
    std::uint64_t count() const { return chunks_.size(); }
    std::uint64_t bytes_of(std::uint64_t chunk) const;

    // ---- who reads
    std::vector<ChunkUser*>& users() { return users_; }
    // Whether somebody is reading it in this moment.
    bool is_used(std::uint64_t chunk) const;
    // Whether somebody was told that it landed, and is still about to read it.
    bool is_awaited(std::uint64_t chunk, Microseconds now);
    // When it was read last, or landed: CLOCK_MONOTONIC in units of 2^kChunkUseShift ns.
    std::uint32_t last_use(std::uint64_t chunk) const;

    // ---- bytes
    // Whether pages [first, end) in memory are those that were sealed; `hashes` of the chunk.
    Result<> verify(std::uint64_t chunk, std::uint32_t first, std::uint32_t end);
    // Gives the memory of a chunk back. Nobody may read it.
    Result<> punch(std::uint64_t chunk);
    // What is allocated now, in bytes: never judged by lengths.
    std::uint64_t memory_used() const;
    std::uint64_t disk_used() const;

private:
    ChunkImage(std::string id, RemoteMemory remote, protocol::ChunkMap map)
        : id_(std::move(id)), remote_(std::move(remote)), map_(std::move(map)) {}
    Result<> open_index();

    std::string id_;
    std::string name_;
    RemoteMemory remote_;
    protocol::ChunkMap map_;
    std::shared_ptr<const ChunkFiles> files_;
    std::unique_ptr<image::MapReader> index_; // from the start on
    std::vector<Chunk> chunks_;
    std::vector<ChunkUser*> users_;
    std::vector<std::byte> buffer_; // of verify()
};

} // namespace thaw::pagerd
