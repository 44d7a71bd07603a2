// SPDX-License-Identifier: MIT

// Room for chunks that are wanted: others are given back, or pushed out to disk first.

#include "chunk_cache.hpp"
#include "chunk_work.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"

#include <algorithm>
#include <utility>

namespace thaw::pagerd {

using protocol::kChunkSize;

namespace {

// Chosen together, so that not all of the cache is looked through for each of them; of a small one
// not so many that little is left.
std::size_t batch_of(std::uint64_t budget) {
    constexpr std::uint64_t kMost = 8;
    constexpr std::uint64_t kPart = 16;
    return std::clamp<std::uint64_t>(budget / kPart, 1, kMost);
}
// A disk that refused is not asked again for a while.
constexpr Microseconds kSpillPause = 30 * kUsecPerSec;

std::uint32_t use_clock() {
    constexpr std::uint64_t kNsecPerUsec = 1000;
    return static_cast<std::uint32_t>(now_monotonic() * kNsecPerUsec >> protocol::kChunkUseShift);
}

} // namespace

// True: there is room for one more now. False: there may be later.
bool ChunkCache::make_room() {
    if (in_memory_ < budget_.memory) return true;
    if (in_memory_ - spilling_ < budget_.memory) return false; // it is being made
    const auto now = now_monotonic();
    std::vector<ChunkImage*> images;
    std::vector<ChunkAge> candidates;
    for (const auto& [id, entry] : images_) {
        ChunkImage& image = *entry.image;
        images.push_back(&image);
        for (std::uint64_t number = 0; number < image.count(); ++number) {
            if (image.chunk(number).state != Chunk::State::Whole) continue;
            if (image.is_used(number) || image.is_awaited(number, now)) continue;
            candidates.push_back({
                .image = images.size() - 1,
                .chunk = number,
                .last_use = image.last_use(number),
                .has_users = !image.users().empty(),
            });
        }
    }
    const std::size_t batch = batch_of(budget_.memory);
    for (const ChunkAge& age : choose_victims(std::move(candidates), batch, use_clock())) {
        const Place place{images[age.image], age.chunk};
        if (!place.image->map().is_on_disk(place.chunk) && may_spill(*place.image) &&
            make_room_on_disk())
            begin_spill(place, false);
        else
            drop(place);
    }
    return in_memory_ < budget_.memory;
}

bool ChunkCache::may_spill(const ChunkImage& image) const {
    return budget_.disk > 0 && image.files()->spill && !disk_is_critical_ &&
           now_monotonic() >= spill_blocked_;
}

// False: somebody is reading it in this very moment.
bool ChunkCache::drop(Place place) {
    Chunk& chunk = place.image->chunk(place.chunk);
    auto& map = place.image->map();
    // In this order: a worker publishes what it reads before it looks at the map.
    map.set_ready(place.chunk, 0);
    if (place.image->is_used(place.chunk)) {
        map.set_ready(place.chunk, map.pages_of(place.chunk));
        chunk.state = Chunk::State::Whole;
        return false;
    }
    if (const auto given = place.image->punch(place.chunk); !given) {
        log_warning("image {}: {}", place.image->id(), given.error().message());
        map.set_ready(place.chunk, map.pages_of(place.chunk));
        chunk.state = Chunk::State::Whole;
        return false;
    }
    chunk.state = Chunk::State::Absent;
    chunk.readers.clear();
    --in_memory_;
    ++counters_.evictions;
    return true;
}

void ChunkCache::begin_spill(Place place, bool keep_in_memory) {
    Chunk& chunk = place.image->chunk(place.chunk);
    chunk.state = Chunk::State::Spilling;
    ++writing_;
    if (!keep_in_memory) ++spilling_;
    ++entry_of(*place.image).busy;
    const ChunkPlace where{place.chunk * kChunkSize, place.image->bytes_of(place.chunk)};
    chunk.begun_at = now_monotonic();
    chunk.writing = throttle_->begin("the cache of remote images");
    chunk.disk = disk_->ask<void>(
        "cache of " + place.image->id(),
        [files = place.image->files(), where, left = settings_.keep_free]() -> Result<> {
            THAW_TRY(const auto free, free_bytes(*files));
            if (free < left + where.length)
                return fail(ENOSPC, "only {} are free", format_size(free));
            return spill_chunk(*files, where);
        },
        [this, place, keep_in_memory](Result<> written) {
            on_spilled(place, keep_in_memory, std::move(written));
        }
    );
}

void ChunkCache::on_spilled(Place place, bool keep_in_memory, Result<> written) {
    Chunk& chunk = place.image->chunk(place.chunk);
    if (!keep_in_memory) --spilling_;
    chunk.writing = {};
    --writing_;
    --entry_of(*place.image).busy;
    if (written) {
        ++counters_.spills;
        counters_.store_time.add(now_monotonic() - chunk.begun_at);
        counters_.bytes_stored += place.image->bytes_of(place.chunk);
        place.image->map().set_on_disk(place.chunk, true);
        ++on_disk_;
    } else {
        spill_blocked_ = now_monotonic() + kSpillPause;
        log_event(
            LogLevel::Warning, message_id::kCacheDiskRefused, {},
            "remote images are not cached on disk for {}: {}", format_timespan(kSpillPause),
            written.error().message()
        );
    }
    chunk.state = Chunk::State::Whole;
    // Somebody may have come to need it meanwhile.
    if (!keep_in_memory && !place.image->is_awaited(place.chunk, now_monotonic())) drop(place);
    pump();
}

bool ChunkCache::make_room_on_disk() {
    if (on_disk_ + writing_ < budget_.disk) return true;
    std::vector<ChunkImage*> images;
    std::vector<ChunkAge> candidates;
    for (const auto& [id, entry] : images_) {
        ChunkImage& image = *entry.image;
        images.push_back(&image);
        for (std::uint64_t number = 0; number < image.count(); ++number)
            if (image.map().is_on_disk(number) &&
                image.chunk(number).state != Chunk::State::Filling)
                candidates.push_back({
                    .image = images.size() - 1,
                    .chunk = number,
                    .last_use = image.last_use(number),
                    .has_users = !image.users().empty(),
                });
    }
    const std::size_t batch = batch_of(budget_.disk);
    for (const ChunkAge& age : choose_victims(std::move(candidates), batch, use_clock())) {
        forget_on_disk({images[age.image], age.chunk});
        ++counters_.evictions_disk;
    }
    return on_disk_ + writing_ < budget_.disk;
}

// Work on one image's file is done in the order it was asked for: what is written there next comes
// after this.
void ChunkCache::forget_on_disk(Place place) {
    place.image->map().set_on_disk(place.chunk, false);
    --on_disk_;
    const ChunkPlace where{place.chunk * kChunkSize, place.image->bytes_of(place.chunk)};
    forgotten_.clear(); // those of an earlier call run to their end all the same
    forgotten_.push_back(disk_->ask<void>(
        "cache of " + place.image->id(),
        [files = place.image->files(), where] { return drop_spilled(*files, where); },
        [](const Result<>& dropped) {
            if (!dropped) log_warning("{}", dropped.error().message());
        }
    ));
}

// The guardian's level of the volume that the tier on disk is on.
void ChunkCache::on_levels(const std::vector<guard::VolumeView>& views) {
    const guard::VolumeView* nearest = nullptr;
    for (const auto& view : views) {
        const std::string& mount = view.mount_point;
        const bool holds = settings_.directory == mount || mount == "/" ||
                           settings_.directory.starts_with(mount + "/");
        if (holds && (nearest == nullptr || mount.size() > nearest->mount_point.size()))
            nearest = &view;
    }
    if (nearest == nullptr) return; // what was known last counts
    const bool critical = nearest->level >= guard::Level::Critical;
    if (critical == std::exchange(disk_is_critical_, critical)) return;
    if (critical)
        log_event(
            LogLevel::Warning, message_id::kCacheDiskRefused, {{"THAW_VOLUME", nearest->id}},
            "{} is {}: remote images are not cached on disk", nearest->mount_point,
            diskguard1::kLevelNames.name(nearest->level)
        );
    else
        log_notice("{} has room again: remote images are cached on disk", nearest->mount_point);
}

} // namespace thaw::pagerd
