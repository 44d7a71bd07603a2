// SPDX-License-Identifier: MIT
#pragma once

// Where each block of the disk lies. Two levels: a part of the disk that was never written costs
// nothing but a pointer.
//
// Threading: get() and set() of one block must exclude each other (the caller's range locks);
// different blocks may be used at once. for_each_run() needs all set() to be excluded. Counters may
// be read at any time.

#include "overlay/geometry.hpp"

#include <array>
#include <atomic>
#include <memory>
#include <vector>

namespace thaw::rootfs {

enum class Kind : std::uint8_t { Base, Zero, Memory, Disk };

struct Location {
    Kind kind = Kind::Base;
    std::uint32_t slot = 0; // of Memory and Disk
    bool operator==(const Location&) const = default;
    bool has_slot() const { return kind == Kind::Memory || kind == Kind::Disk; }
    // What the n-th block after this one has in a run.
    Location plus(std::uint32_t n) const {
        return {.kind = kind, .slot = has_slot() ? slot + n : 0};
    }
};
// Slots of one tier: 8 TiB.
inline constexpr std::uint32_t kMaxSlots = 0x7fff'fff0;

// A location in 32 bits: 0 the base, 1 zeros, else the slot + 2 with the tier in the highest bit.
std::uint32_t pack(Location location);
Location unpack(std::uint32_t packed);

struct MapRun {
    std::uint64_t block = 0;
    std::uint32_t count = 0;
    Location location; // of the first block; slots go up by one
    bool operator==(const MapRun&) const = default;
};

class BlockMap {
public:
    explicit BlockMap(std::uint64_t blocks);
    BlockMap(const BlockMap&) = delete;
    BlockMap& operator=(const BlockMap&) = delete;
    ~BlockMap();

    std::uint64_t blocks() const { return blocks_; }
    Location get(std::uint64_t block) const;
    // Throws std::bad_alloc.
    void set(std::uint64_t block, Location location);
    // All runs of blocks that are not the base's, in order, as long as they can be.
    std::vector<MapRun> runs() const;

    // Blocks that are not the base's, and those of them that are zeros.
    std::uint64_t dirty() const { return dirty_.load(std::memory_order_relaxed); }
    std::uint64_t zeros() const { return zeros_.load(std::memory_order_relaxed); }

private:
    static constexpr std::uint64_t kLeafBlocks = 4096; // 16 MiB of disk in 16 KiB
    struct Leaf {
        std::array<std::uint32_t, kLeafBlocks> entries{};
    };
    Leaf& leaf_of(std::uint64_t block);

    std::uint64_t blocks_;
    std::vector<std::atomic<Leaf*>> leaves_;
    std::atomic<std::uint64_t> dirty_{0};
    std::atomic<std::uint64_t> zeros_{0};
};

} // namespace thaw::rootfs
