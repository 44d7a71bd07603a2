// SPDX-License-Identifier: MIT
#pragma once

// org.thaw.pager1.Cache on the root object: what the cache of remote images holds and did.

#include "bus/bus.hpp"
#include "chunk_cache.hpp"

#include <memory>

namespace thaw::pagerd {

class ChunkCacheBus {
public:
    // Both outlive the object.
    static Result<std::unique_ptr<ChunkCacheBus>> create(Bus& bus, const ChunkCache& cache);
    ChunkCacheBus(const ChunkCacheBus&) = delete;
    ChunkCacheBus& operator=(const ChunkCacheBus&) = delete;

private:
    explicit ChunkCacheBus(const ChunkCache& cache) : cache_(cache) {}
    Result<> property_backing(BusMessage& reply) const;
    Result<> property_images(BusMessage& reply) const;
    Result<> property_memory_max(BusMessage& reply) const;
    Result<> property_disk_max(BusMessage& reply) const;
    template <auto Measure>
    Result<> append_measured(BusMessage& reply) const;
    template <auto Count>
    Result<> append_count(BusMessage& reply) const;
    template <auto Histogram>
    Result<> append_buckets(BusMessage& reply) const;
    template <auto Histogram>
    Result<> append_sum(BusMessage& reply) const;
    static const sd_bus_vtable kVtable[];

    const ChunkCache& cache_;
    BusSlot slot_;
};

} // namespace thaw::pagerd
