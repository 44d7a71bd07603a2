// SPDX-License-Identifier: MIT
#include "overlay/block_map.hpp"

#include "core/error.hpp"

#include <utility>

namespace thaw::rootfs {

namespace {

constexpr std::uint32_t kDiskBit = 0x8000'0000;

} // namespace

std::uint32_t pack(Location location) {
    switch (location.kind) {
    case Kind::Base:
        return 0;
    case Kind::Zero:
        return 1;
    case Kind::Memory:
        return location.slot + 2;
    case Kind::Disk:
        return (location.slot + 2) | kDiskBit;
    }
    return 0;
}

Location unpack(std::uint32_t packed) {
    if (packed == 0) return {};
    if (packed == 1) return {.kind = Kind::Zero, .slot = 0};
    return {
        .kind = (packed & kDiskBit) != 0 ? Kind::Disk : Kind::Memory,
        .slot = (packed & ~kDiskBit) - 2,
    };
}

BlockMap::BlockMap(std::uint64_t blocks)
    : blocks_(blocks), leaves_((blocks + kLeafBlocks - 1) / kLeafBlocks) {}

BlockMap::~BlockMap() {
    for (const auto& leaf : leaves_)
        delete leaf.load(std::memory_order_relaxed); // NOLINT(cppcoreguidelines-owning-memory)
}

Location BlockMap::get(std::uint64_t block) const {
    THAW_INVARIANT(block < blocks_);
    const Leaf* leaf = leaves_[block / kLeafBlocks].load(std::memory_order_acquire);
    return leaf == nullptr ? Location{} : unpack(leaf->entries[block % kLeafBlocks]);
}

BlockMap::Leaf& BlockMap::leaf_of(std::uint64_t block) {
    auto& place = leaves_[block / kLeafBlocks];
    if (Leaf* leaf = place.load(std::memory_order_acquire)) return *leaf;
    auto fresh = std::make_unique<Leaf>();
    Leaf* expected = nullptr;
    // Two blocks of one leaf may be written at once: the first to finish wins.
    if (place.compare_exchange_strong(expected, fresh.get(), std::memory_order_acq_rel))
        return *fresh.release();
    return *expected;
}

void BlockMap::set(std::uint64_t block, Location location) {
    THAW_INVARIANT(block < blocks_);
    auto& entry = leaf_of(block).entries[block % kLeafBlocks];
    const std::uint32_t old = std::exchange(entry, pack(location));
    if (old == 0 && entry != 0) dirty_.fetch_add(1, std::memory_order_relaxed);
    if (old != 0 && entry == 0) dirty_.fetch_sub(1, std::memory_order_relaxed);
    if (old != 1 && entry == 1) zeros_.fetch_add(1, std::memory_order_relaxed);
    if (old == 1 && entry != 1) zeros_.fetch_sub(1, std::memory_order_relaxed);
}

std::vector<MapRun> BlockMap::runs() const {
    std::vector<MapRun> runs;
    for (std::uint64_t index = 0; index < leaves_.size(); ++index) {
        const Leaf* leaf = leaves_[index].load(std::memory_order_acquire);
        if (leaf == nullptr) continue;
        for (std::uint64_t i = 0; i < kLeafBlocks; ++i) {
            if (leaf->entries[i] == 0) continue;
            const std::uint64_t block = index * kLeafBlocks + i;
            const Location location = unpack(leaf->entries[i]);
            if (!runs.empty()) {
                auto& last = runs.back();
                if (last.block + last.count == block && last.count < UINT32_MAX &&
                    last.location.plus(last.count) == location) {
                    ++last.count;
                    continue;
                }
            }
            runs.push_back({.block = block, .count = 1, .location = location});
        }
    }
    return runs;
}

} // namespace thaw::rootfs
