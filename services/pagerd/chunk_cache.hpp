// SPDX-License-Identifier: MIT
#pragma once

// The read-through cache of remote images' memory: one for the broker, shared by all VMs of an
// image. A chunk (4 MiB) is fetched once however many wait for it; they are let go page by page as
// bytes land and turn out to be those that were sealed. What was fetched is kept for everybody
// within a budget of memory, then on disk, then not at all.
//
// Nothing here blocks: thaw-fetchd fetches, threads read and write the disk.

#include "bus/bus.hpp"
#include "chunk_counters.hpp"
#include "chunk_image.hpp"
#include "chunk_plan.hpp"
#include "event/disk.hpp"
#include "event/event.hpp"
#include "fetch/fetch_client.hpp"
#include "guard/guard_client.hpp"
#include "metrics/dirty_throttle.hpp"
#include "protocol/worker_control.hpp"
#include "stored_fds.hpp"
#include "systemd/notify.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace thaw::pagerd {

struct CacheSettings {
    CacheBudget budget;
    std::string directory; // of the tier on disk; empty: there is none
    // Free bytes that the tier on disk leaves to others.
    std::uint64_t keep_free = 0;
    // What nobody uses is forgotten after this time.
    Microseconds idle = 0;
    std::string fetch_socket;
};

class ChunkCache {
public:
    static Result<std::unique_ptr<ChunkCache>>
    create(EventLoop& loop, Bus& bus, FdStore& store, CacheSettings settings);
    ChunkCache(const ChunkCache&) = delete;
    ChunkCache& operator=(const ChunkCache&) = delete;
    // No session is attached any more.
    ~ChunkCache();

    // What an earlier broker had of the image; takes its descriptors out of `stored`. What is not
    // whole is removed from the store and named in the error.
    Result<> adopt(const std::string& id, std::map<FdRole, Fd>& stored);
    // The image's chunks, made when they are new. `index` is its memory.map and is duplicated.
    // ImageMismatch when the image is known with another memory.
    Result<ChunkImage*>
    open(const std::string& id, RemoteMemory remote, int index, std::uint64_t memory_size);
    // nullptr: unknown.
    ChunkImage* find(const std::string& id) const;
    // As long as a user is attached its image stays.
    void attach(ChunkImage& image, ChunkUser& user);
    void detach(ChunkImage& image, ChunkUser& user);
    // Answers user.chunk_landed() or chunk_failed(), now or later, unless it detaches before.
    void want(ChunkImage& image, ChunkUser& user, const protocol::WantChunkMessage& wanted);

    std::size_t descriptors() const; // in the store
    // Whether the next broker will have it.
    bool is_kept(const ChunkImage& image) const;
    static constexpr std::size_t kMostStored = 6; // descriptors of one image
    const ChunkCounters& counters() const { return counters_; }
    // Measured (blocks, not lengths).
    std::uint64_t memory_used() const;
    std::uint64_t disk_used() const;
    // Nothing goes to the disk meanwhile: so says the disk guardian.
    bool disk_is_critical() const { return disk_is_critical_; }
    const CacheSettings& settings() const { return settings_; }
    const metrics::DirtyThrottle& throttle() const { return *throttle_; }
    std::size_t images() const { return images_.size(); }
    std::uint64_t fetcher_deaths() const { return client_->deaths(); }

private:
    struct Entry {
        std::unique_ptr<ChunkImage> image;
        std::vector<FdRole> stored;
        Microseconds idle_since = 0;
        unsigned busy = 0;  // fills and disk work under way
        unsigned fills = 0; // of them
    };
    struct Place {
        ChunkImage* image;
        std::uint64_t chunk;
    };

    ChunkCache(EventLoop& loop, FdStore& store, CacheSettings settings);
    Result<> start(Bus& bus);

    // ---- chunk_cache.cpp: images
    Entry& entry_of(const ChunkImage& image);
    Entry& add(std::unique_ptr<ChunkImage> image);
    Result<> keep(Entry& entry);
    void remove(const std::string& id);
    void on_tick();
    void tick_later();

    // ---- chunk_fill.cpp: absent chunks
    void enqueue(ChunkImage& image, std::uint64_t chunk, bool wanted);
    std::optional<Place> take_next(std::deque<Place>& queue);
    void pump();
    void begin_fill(Place place);
    void on_hashes(Place place, Result<std::vector<std::uint64_t>> hashes);
    void begin_load(Place place);
    void begin_fetch(Place place);
    void on_progress(Place place, std::uint64_t landed);
    void on_fetched(Place place, const fetch::FetchEnd& end);
    void check_landed(Place place, std::uint64_t bytes);
    void release_waiters(Place place);
    void finish_fill(Place place);
    void fail_fill(Place place, const Error& error);

    // ---- chunk_evict.cpp: room
    bool make_room();
    bool may_spill(const ChunkImage& image) const;
    bool drop(Place place);
    void begin_spill(Place place, bool keep_in_memory);
    void on_spilled(Place place, bool keep_in_memory, Result<> written);
    bool make_room_on_disk();
    void forget_on_disk(Place place);
    void on_levels(const std::vector<guard::VolumeView>& views);

    EventLoop& loop_;
    FdStore& store_;
    CacheSettings settings_;
    ChunkBudget budget_;
    ChunkCounters counters_;
    std::unique_ptr<Disk> disk_;
    std::unique_ptr<fetch::FetchClient> client_;
    std::unique_ptr<guard::GuardClient> guard_;
    guard::GuardHandle levels_;
    std::unique_ptr<metrics::DirtyThrottle> throttle_;
    bool disk_is_critical_ = false;       // says the disk guardian
    Microseconds spill_blocked_ = 0;      // until then: writing to disk failed
    std::map<std::string, Entry> images_; // by id
    std::deque<Place> queue_;             // wanted; first come first served
    std::deque<Place> ahead_;             // soon to be wanted
    std::uint64_t in_memory_ = 0;         // chunks
    std::uint64_t on_disk_ = 0;           // chunks
    std::uint64_t writing_ = 0;           // chunks on their way to disk
    std::uint64_t spilling_ = 0;          // chunks whose memory will be free soon
    std::uint64_t filling_ = 0;
    bool pumping_ = false;
    bool lacks_room_ = false;
    EventSource room_timer_;
    EventSource tick_;
    std::vector<DiskHandle> forgotten_; // work on disk that nobody waits for
};

} // namespace thaw::pagerd
