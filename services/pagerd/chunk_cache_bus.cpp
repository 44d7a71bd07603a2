// SPDX-License-Identifier: MIT
#include "chunk_cache_bus.hpp"

#include "api/pager1.hpp"
#include "bus/vtable.hpp"

#include <string>

namespace thaw::pagerd {

Result<std::unique_ptr<ChunkCacheBus>> ChunkCacheBus::create(Bus& bus, const ChunkCache& cache) {
    auto object = std::unique_ptr<ChunkCacheBus>(new ChunkCacheBus(cache));
    THAW_TRY(
        object->slot_, bus.add_object(pager1::kPath, pager1::kCacheInterface, kVtable, object.get())
    );
    return object;
}

Result<> ChunkCacheBus::property_backing(BusMessage& reply) const {
    const std::string word(kCacheBackings.name(cache_.settings().budget.backing));
    return reply.append("s", word.c_str());
}
Result<> ChunkCacheBus::property_images(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(cache_.images()));
}
Result<> ChunkCacheBus::property_memory_max(BusMessage& reply) const {
    const auto budget = chunk_budget(cache_.settings().budget);
    return reply.append("t", budget.memory * protocol::kChunkSize);
}
Result<> ChunkCacheBus::property_disk_max(BusMessage& reply) const {
    const auto budget = chunk_budget(cache_.settings().budget);
    return reply.append("t", budget.disk * protocol::kChunkSize);
}
template <auto Measure>
Result<> ChunkCacheBus::append_measured(BusMessage& reply) const {
    return reply.append("t", (cache_.*Measure)());
}
template <auto Count>
Result<> ChunkCacheBus::append_count(BusMessage& reply) const {
    return reply.append("t", cache_.counters().*Count);
}
template <auto Histogram>
Result<> ChunkCacheBus::append_buckets(BusMessage& reply) const {
    THAW_CHECK(reply.open_container('a', "t"));
    for (const std::uint64_t bucket : (cache_.counters().*Histogram).buckets)
        THAW_CHECK(reply.append("t", bucket));
    return reply.close_container();
}
template <auto Histogram>
Result<> ChunkCacheBus::append_sum(BusMessage& reply) const {
    return reply.append("t", (cache_.counters().*Histogram).sum_usec);
}

#define THAW_CONST(name, type, getter)                                                             \
    SD_BUS_PROPERTY(                                                                               \
        name, type, (bus_property<ChunkCacheBus, &ChunkCacheBus::getter>), 0,                      \
        SD_BUS_VTABLE_PROPERTY_CONST                                                               \
    )
#define THAW_SILENT(name, type, getter)                                                            \
    SD_BUS_PROPERTY(name, type, (bus_property<ChunkCacheBus, &ChunkCacheBus::getter>), 0, 0)
#define THAW_MEASURED(name, measure) THAW_SILENT(name, "t", append_measured<&ChunkCache::measure>)
#define THAW_COUNTER(name, count) THAW_SILENT(name, "t", append_count<&ChunkCounters::count>)
#define THAW_HISTOGRAM(name, histogram)                                                            \
    THAW_SILENT(name, "at", append_buckets<&ChunkCounters::histogram>),                            \
        THAW_SILENT(name "SumUSec", "t", append_sum<&ChunkCounters::histogram>)

const sd_bus_vtable ChunkCacheBus::kVtable[] = {
    SD_BUS_VTABLE_START(0),
    THAW_CONST("Backing", "s", property_backing),
    THAW_CONST("MemoryMax", "t", property_memory_max),
    THAW_CONST("DiskMax", "t", property_disk_max),
    THAW_SILENT("Images", "u", property_images),
    THAW_MEASURED("MemoryUsed", memory_used),
    THAW_MEASURED("DiskUsed", disk_used),
    THAW_MEASURED("FetcherDeaths", fetcher_deaths),
    THAW_COUNTER("Hits", hits),
    THAW_COUNTER("Misses", misses),
    THAW_COUNTER("Fetches", fetches),
    THAW_COUNTER("BytesFetched", bytes_fetched),
    THAW_COUNTER("Loads", loads),
    THAW_COUNTER("Spills", spills),
    THAW_COUNTER("BytesStored", bytes_stored),
    THAW_COUNTER("Evictions", evictions),
    THAW_COUNTER("DiskEvictions", evictions_disk),
    THAW_COUNTER("Failures", failures),
    THAW_COUNTER("Corrupt", corrupt),
    THAW_HISTOGRAM("FetchLatency", fetch_latency),
    THAW_HISTOGRAM("StoreTime", store_time),
    SD_BUS_VTABLE_END,
};

} // namespace thaw::pagerd
