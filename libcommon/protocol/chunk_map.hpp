// SPDX-License-Identifier: MIT
#pragma once

// Which chunks of a remote image's memory are in the broker's cache: a memfd beside the one with
// the bytes. The broker writes it, workers only read it.
//
// A hole of the data memfd reads as zeros without an error, so nothing but this says what may be
// read: never SEEK_DATA, never a count of blocks.
//
// Taking a chunk away while workers read: a worker publishes the chunk it is about to use in its
// session memory (SessionState::used_chunk), then looks at ready(), copies, clears. The broker
// clears ready(), then looks at what all sessions have published, and only then punches the hole.
// Both sides use sequentially consistent order, so one of them sees the other.
//
// Who publishes nothing (the server of a root file system, which nobody trusts with holding chunks)
// looks at generation() before ready(), reads, and looks again: another number means that the bytes
// may have been taken away meanwhile, and they are read anew.

#include "core/fd.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace thaw::protocol {

// The unit of fetching and of eviction; memory.map has one list of hashes for each.
inline constexpr std::uint64_t kChunkSize = 4 << 20;
inline constexpr std::uint32_t kChunkPages = kChunkSize / 4096;

class ChunkMap {
public:
    using ImageId = std::array<std::uint8_t, 16>;

    // Broker: a fresh one, every chunk absent. Sealed against resizing, allocated whole.
    static Result<ChunkMap> create(const ImageId& image, std::uint64_t memory_size);
    // One that came from the descriptor store (writable) or from the broker (not). EBADMSG names
    // what is wrong with it. Takes the descriptor over, also when it fails.
    enum class Access { Read, Write };
    static Result<ChunkMap> map(Fd memfd, Access access);
    ChunkMap(ChunkMap&& other) noexcept;
    ChunkMap& operator=(ChunkMap&& other) noexcept;
    ChunkMap(const ChunkMap&) = delete;
    ChunkMap& operator=(const ChunkMap&) = delete;
    ~ChunkMap();

    int fd() const { return fd_.get(); }
    const ImageId& image() const { return image_; }
    std::uint64_t memory_size() const { return memory_size_; }
    std::uint64_t chunk_count() const { return chunk_count_; }
    // 4 KiB pages; fewer for the last one. Chunks at or beyond chunk_count() have none.
    std::uint32_t pages_of(std::uint64_t chunk) const;

    // Pages from the chunk's first on that are there and were checked.
    std::uint32_t ready(std::uint64_t chunk) const;
    bool is_whole(std::uint64_t chunk) const { return ready(chunk) == pages_of(chunk); }
    // Counts how often pages of the chunk ceased to be there. May wrap around.
    std::uint32_t generation(std::uint64_t chunk) const;
    // Broker only. Fewer pages than before begin another generation.
    void set_ready(std::uint64_t chunk, std::uint32_t pages);
    // Broker only: what an earlier one may have left half done. Another generation in any case.
    void forget(std::uint64_t chunk);
    // Broker only, of no meaning to others: the tier on disk has the whole chunk.
    bool is_on_disk(std::uint64_t chunk) const;
    void set_on_disk(std::uint64_t chunk, bool there);

private:
    struct Header;
    struct Entry {
        std::atomic<std::uint32_t> ready;
        std::atomic<std::uint32_t> generation;
        std::atomic<std::uint32_t> on_disk;
        std::uint32_t reserved;
    };
    ChunkMap() = default;
    Entry& entry(std::uint64_t chunk) const;

    Fd fd_;
    std::byte* base_ = nullptr;
    std::size_t size_ = 0;
    ImageId image_{};
    std::uint64_t memory_size_ = 0;
    std::uint64_t chunk_count_ = 0;
};

// Another descriptor of a memfd that can only read. EACCES and others of open().
Result<Fd> reopen_read_only(int memfd);

} // namespace thaw::protocol
