// SPDX-License-Identifier: MIT

// From an absent chunk to one in memory: its hashes are read, its bytes fetched or read back from
// disk, each page checked before anybody is told of it.

#include "api/pager1.hpp"
#include "chunk_cache.hpp"
#include "chunk_work.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"

#include <algorithm>
#include <utility>

namespace thaw::pagerd {

using protocol::kChunkSize;

namespace {

// The others wait their turn: more at once only makes each of them slower. And one image whose
// server hangs leaves room for the others.
constexpr std::uint64_t kMostFills = 24;
constexpr unsigned kMostFillsOfImage = 8;
// What is corrupt on its way may be whole the next time; what was stored so will not be.
constexpr unsigned kMostCorrupt = 3;
// Memory that is being read cannot be given to others; a look after this time costs nothing.
constexpr Microseconds kRoomRetry = 50 * kUsecPerMsec;

} // namespace

void ChunkCache::want(
    ChunkImage& image, ChunkUser& user, const protocol::WantChunkMessage& wanted
) {
    if (wanted.chunk >= image.count()) return; // a worker that was taken over
    Chunk& chunk = image.chunk(wanted.chunk);
    if (image.map().ready(wanted.chunk) >=
        std::min(wanted.pages, image.map().pages_of(wanted.chunk))) {
        ++counters_.hits;
        if (!std::ranges::count(chunk.readers, &user)) chunk.readers.push_back(&user);
        chunk.landed_at = now_monotonic();
        user.chunk_landed(wanted.chunk);
    } else {
        const auto waiter = std::ranges::find(chunk.waiters, &user, &Chunk::Waiter::user);
        if (waiter == chunk.waiters.end()) {
            ++counters_.misses;
            chunk.waiters.push_back({.user = &user, .pages = wanted.pages});
        } else {
            // It may have several readers: the one that needs least is told first, the others ask
            // anew.
            waiter->pages = std::min(waiter->pages, wanted.pages);
        }
        enqueue(image, wanted.chunk, true);
    }
    for (std::uint64_t next = 1; next <= wanted.ahead; ++next)
        enqueue(image, wanted.chunk + next, false);
    pump();
}

void ChunkCache::enqueue(ChunkImage& image, std::uint64_t number, bool wanted) {
    if (number >= image.count()) return;
    Chunk& chunk = image.chunk(number);
    if (chunk.state != Chunk::State::Absent || chunk.queued) return;
    if (!wanted) {
        const std::uint64_t first = number * protocol::kChunkPages;
        if (image.hashes().is_zero(first, image.map().pages_of(number))) return;
        const auto same = [&](const Place& place) {
            return place.image == &image && place.chunk == number;
        };
        if (std::ranges::none_of(ahead_, same)) ahead_.push_back({&image, number});
        return;
    }
    chunk.queued = true;
    queue_.push_back({&image, number});
}

// The first of `queue` that may begin now.
std::optional<ChunkCache::Place> ChunkCache::take_next(std::deque<Place>& queue) {
    if (filling_ >= kMostFills) return std::nullopt;
    const auto next = std::ranges::find_if(queue, [this](const Place& place) {
        return entry_of(*place.image).fills < kMostFillsOfImage;
    });
    if (next == queue.end()) return std::nullopt;
    if (in_memory_ >= budget_.memory && !make_room()) {
        lacks_room_ = true;
        return std::nullopt;
    }
    const Place place = *next;
    queue.erase(next);
    return place;
}

// Begins what can be begun.
void ChunkCache::pump() {
    if (std::exchange(pumping_, true)) return; // from inside itself
    lacks_room_ = false;
    while (const auto place = take_next(queue_)) {
        place->image->chunk(place->chunk).queued = false;
        begin_fill(*place);
    }
    while (queue_.empty() && !lacks_room_) {
        const auto place = take_next(ahead_);
        if (!place) break;
        if (place->image->chunk(place->chunk).state == Chunk::State::Absent) begin_fill(*place);
    }
    pumping_ = false;
    if (!lacks_room_) return; // the end of a fill goes on
    ahead_.clear();           // nobody has asked for these yet
    auto timer = loop_.add_timer(kRoomRetry, [this] { pump(); }, "chunk-room", priority::kTimer);
    if (timer) room_timer_ = std::move(*timer);
}

void ChunkCache::begin_fill(Place place) {
    Chunk& chunk = place.image->chunk(place.chunk);
    chunk.state = Chunk::State::Filling;
    chunk.begun_at = now_monotonic();
    chunk.verified = 0;
    chunk.corrupt = 0;
    chunk.is_bad = false;
    ++in_memory_;
    ++filling_;
    ++entry_of(*place.image).busy;
    ++entry_of(*place.image).fills;
    const auto list = place.image->hashes().list_of_page(place.chunk * protocol::kChunkPages);
    chunk.disk = disk_->ask<std::vector<std::uint64_t>>(
        "memory.map of " + place.image->id(),
        [files = place.image->files(), list] { return read_chunk_hashes(*files, list); },
        [this, place](Result<std::vector<std::uint64_t>> hashes) {
            on_hashes(place, std::move(hashes));
        }
    );
}

void ChunkCache::on_hashes(Place place, Result<std::vector<std::uint64_t>> hashes) {
    Chunk& chunk = place.image->chunk(place.chunk);
    const auto& index = place.image->hashes();
    if (!hashes) return fail_fill(place, hashes.error());
    const auto list = index.list_of_page(place.chunk * protocol::kChunkPages);
    if (const auto good = index.check_list(list, std::as_bytes(std::span(*hashes))); !good)
        return fail_fill(place, good.error());
    chunk.hashes = std::move(*hashes);
    if (place.image->map().is_on_disk(place.chunk))
        begin_load(place);
    else
        begin_fetch(place);
}

void ChunkCache::begin_load(Place place) {
    Chunk& chunk = place.image->chunk(place.chunk);
    const ChunkPlace where{place.chunk * kChunkSize, place.image->bytes_of(place.chunk)};
    chunk.disk = disk_->ask<void>(
        "cache of " + place.image->id(),
        [files = place.image->files(), where, hashes = chunk.hashes] {
            return load_chunk(*files, where, hashes);
        },
        [this, place](Result<> loaded) {
            if (loaded) {
                ++counters_.loads;
                auto& read = place.image->chunk(place.chunk);
                read.verified = place.image->map().pages_of(place.chunk);
                return finish_fill(place);
            }
            // A bad sector, or a disk that hangs: it can be fetched again.
            log_notice(
                "image {}: chunk {} is lost on disk and is fetched again: {}", place.image->name(),
                place.chunk, loaded.error().message()
            );
            forget_on_disk(place);
            begin_fetch(place);
        }
    );
}

void ChunkCache::begin_fetch(Place place) {
    Chunk& chunk = place.image->chunk(place.chunk);
    const RemoteMemory& remote = place.image->remote();
    // What was good of an earlier try stays.
    const std::uint64_t done = chunk.verified * image::kMapPageSize;
    const std::uint64_t offset = place.chunk * kChunkSize + done;
    chunk.is_bad = false;
    const auto begun = client_->fetch(
        {
            .url = remote.url,
            .source = remote.url.empty() ? remote.file.get() : -1,
            .identity = remote.identity,
            .offset = offset,
            .length = place.image->bytes_of(place.chunk) - done,
            .target = place.image->files()->data.get(),
            .target_offset = offset,
        },
        [this, place, done](std::uint64_t landed) { on_progress(place, done + landed); },
        [this, place](const fetch::FetchEnd& end) { on_fetched(place, end); }
    );
    if (!begun) return fail_fill(place, begun.error());
    ++counters_.fetches;
    chunk.fetch = *begun;
}

// Whole pages of what has landed; stops at the first that is not what was sealed.
void ChunkCache::check_landed(Place place, std::uint64_t bytes) {
    Chunk& chunk = place.image->chunk(place.chunk);
    const auto end = static_cast<std::uint32_t>(
        std::min(bytes, place.image->bytes_of(place.chunk)) / image::kMapPageSize
    );
    if (chunk.is_bad || end <= chunk.verified) return;
    if (const auto good = place.image->verify(place.chunk, chunk.verified, end); !good) {
        chunk.is_bad = true;
        ++counters_.corrupt;
        log_event(
            LogLevel::Warning, message_id::kChunkCorrupt,
            {{"THAW_IMAGE", place.image->name()}, {"THAW_SOURCE", place.image->source_name()}},
            "image {}: {}: {}", place.image->name(), place.image->source_name(),
            good.error().message()
        );
        return;
    }
    counters_.bytes_fetched += (end - chunk.verified) * image::kMapPageSize;
    chunk.verified = end;
}

void ChunkCache::on_progress(Place place, std::uint64_t landed) {
    Chunk& chunk = place.image->chunk(place.chunk);
    check_landed(place, landed);
    if (chunk.is_bad) return client_->cancel(chunk.fetch);
    place.image->map().set_ready(place.chunk, chunk.verified);
    release_waiters(place);
}

void ChunkCache::on_fetched(Place place, const fetch::FetchEnd& end) {
    Chunk& chunk = place.image->chunk(place.chunk);
    chunk.fetch = 0;
    if (end.result) check_landed(place, place.image->bytes_of(place.chunk));
    if (chunk.is_bad) {
        if (++chunk.corrupt < kMostCorrupt) return begin_fetch(place);
        return fail_fill(
            place,
            Error(
                pager1::error::kSourceCorrupt, EBADMSG,
                fmt::format(
                    "chunk {} of {} is not what was sealed", place.chunk, place.image->source_name()
                )
            )
        );
    }
    if (!end.result) return fail_fill(place, end.result.error());
    finish_fill(place);
}

void ChunkCache::release_waiters(Place place) {
    Chunk& chunk = place.image->chunk(place.chunk);
    const std::uint32_t ready = place.image->map().ready(place.chunk);
    const std::uint32_t all = place.image->map().pages_of(place.chunk);
    std::vector<ChunkUser*> free;
    std::erase_if(chunk.waiters, [&](const Chunk::Waiter& waiter) {
        if (std::min(waiter.pages, all) > ready) return false;
        free.push_back(waiter.user);
        return true;
    });
    if (!free.empty() || chunk.readers.empty()) chunk.landed_at = now_monotonic();
    for (ChunkUser* user : free) {
        if (!std::ranges::count(chunk.readers, user)) chunk.readers.push_back(user);
        user->chunk_landed(static_cast<std::uint32_t>(place.chunk));
    }
}

void ChunkCache::finish_fill(Place place) {
    Chunk& chunk = place.image->chunk(place.chunk);
    const auto now = now_monotonic();
    counters_.fetch_latency.add(now - chunk.begun_at);
    chunk.state = Chunk::State::Whole;
    chunk.hashes = {};
    --filling_;
    --entry_of(*place.image).busy;
    --entry_of(*place.image).fills;
    place.image->map().set_ready(place.chunk, chunk.verified);
    release_waiters(place);
    // Where memory is a window only, it goes to disk at once.
    if (settings_.budget.backing == CacheBacking::File && may_spill(*place.image) &&
        !place.image->map().is_on_disk(place.chunk) && make_room_on_disk())
        begin_spill(place, true);
    pump();
}

void ChunkCache::fail_fill(Place place, const Error& error) {
    Chunk& chunk = place.image->chunk(place.chunk);
    ++counters_.failures;
    chunk.state = Chunk::State::Absent;
    chunk.hashes = {};
    --in_memory_;
    --filling_;
    --entry_of(*place.image).busy;
    --entry_of(*place.image).fills;
    place.image->map().set_ready(place.chunk, 0);
    // Who reads what had landed keeps it: the memory is used again by the next try.
    if (!place.image->is_used(place.chunk))
        if (const auto given = place.image->punch(place.chunk); !given)
            log_warning("image {}: {}", place.image->name(), given.error().message());
    log_event(
        LogLevel::Warning, message_id::kChunkFailed,
        {{"THAW_IMAGE", place.image->name()},
         {"THAW_SOURCE", place.image->source_name()},
         {"THAW_ERROR", std::string(error.bus_name())}},
        "image {}: chunk {} cannot be had for {} sessions that wait: {}", place.image->name(),
        place.chunk, chunk.waiters.size(), error.message()
    );
    for (const auto& waiter : std::exchange(chunk.waiters, {}))
        waiter.user->chunk_failed(static_cast<std::uint32_t>(place.chunk), error.code());
    pump();
}

} // namespace thaw::pagerd
