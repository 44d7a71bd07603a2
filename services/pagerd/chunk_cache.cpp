// SPDX-License-Identifier: MIT

// The images of the cache: made, adopted, kept in the descriptor store, forgotten.

#include "chunk_cache.hpp"

#include "api/pager1.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <utility>

namespace thaw::pagerd {

namespace {

constexpr Microseconds kTick = 10 * kUsecPerSec;

Fd take(std::map<FdRole, Fd>& stored, FdRole role) {
    auto node = stored.extract(role);
    return node ? std::move(node.mapped()) : Fd();
}

constexpr std::array kChunkRoles{FdRole::Chunks, FdRole::ChunkMap, FdRole::ChunkIndex,
                                 FdRole::Remote, FdRole::Spill,    FdRole::RemoteFile};

} // namespace

ChunkCache::ChunkCache(EventLoop& loop, FdStore& store, CacheSettings settings)
    : loop_(loop), store_(store), settings_(std::move(settings)),
      budget_(chunk_budget(settings_.budget)) {}

ChunkCache::~ChunkCache() = default;

Result<std::unique_ptr<ChunkCache>>
ChunkCache::create(EventLoop& loop, Bus& bus, FdStore& store, CacheSettings settings) {
    auto cache = std::unique_ptr<ChunkCache>(new ChunkCache(loop, store, std::move(settings)));
    THAW_CHECK(cache->start(bus));
    return cache;
}

Result<> ChunkCache::start(Bus& bus) {
    THAW_TRY(disk_, Disk::create(loop_));
    THAW_TRY(throttle_, metrics::DirtyThrottle::create(loop_));
    THAW_TRY(client_, fetch::FetchClient::create(loop_, settings_.fetch_socket));
    guard_ = std::make_unique<guard::GuardClient>(
        bus, *disk_, "thaw-pagerd", [](guard::Trouble, const Error&) {}
    );
    if (budget_.disk == 0 || settings_.directory.empty()) return {};
    // Without a guardian the free bytes that are looked at before each write have to do.
    auto levels =
        guard_->watch([this](const std::vector<guard::VolumeView>& views) { on_levels(views); });
    if (levels)
        levels_ = std::move(*levels);
    else
        log_debug("the levels of the disk are not watched: {}", levels.error().message());
    return {};
}

ChunkImage* ChunkCache::find(const std::string& id) const {
    const auto found = images_.find(id);
    return found == images_.end() ? nullptr : found->second.image.get();
}

ChunkCache::Entry& ChunkCache::entry_of(const ChunkImage& image) {
    return images_.find(image.id())->second;
}

ChunkCache::Entry& ChunkCache::add(std::unique_ptr<ChunkImage> image) {
    const std::string id = image->id();
    Entry entry;
    entry.image = std::move(image);
    entry.idle_since = now_monotonic();
    auto& added = images_.emplace(id, std::move(entry)).first->second;
    tick_later();
    return added;
}

// What an image has is pushed whole or not at all.
Result<> ChunkCache::keep(Entry& entry) {
    const ChunkImage& image = *entry.image;
    const auto push = [&](FdRole role, int fd) -> Result<> {
        THAW_CHECK(store_.push(stored_name(image.id(), role), fd));
        entry.stored.push_back(role);
        return {};
    };
    THAW_TRY(const Fd remote, store_remote_memory(image.remote()));
    THAW_CHECK(push(FdRole::Remote, remote.get()));
    THAW_CHECK(push(FdRole::Chunks, image.files()->data.get()));
    THAW_CHECK(push(FdRole::ChunkMap, image.map().fd()));
    THAW_CHECK(push(FdRole::ChunkIndex, image.files()->index.get()));
    if (image.files()->spill) THAW_CHECK(push(FdRole::Spill, image.files()->spill.get()));
    if (image.remote().file) THAW_CHECK(push(FdRole::RemoteFile, image.remote().file.get()));
    return {};
}

Result<ChunkImage*>
ChunkCache::open(const std::string& id, RemoteMemory remote, int index, std::uint64_t memory_size) {
    if (auto* known = find(id)) {
        if (known->remote().is_same(remote) && known->map().memory_size() == memory_size)
            return known;
        return fail_named(
            pager1::error::kImageMismatch, ESTALE, "image {} is cached with another memory", id
        );
    }
    Fd copy(::fcntl(index, F_DUPFD_CLOEXEC, 0));
    if (!copy) return fail_errno(errno, "duplicate a memory.map");
    const bool spills = budget_.disk > 0;
    THAW_TRY(
        auto made, ChunkImage::create(
                       id, std::move(remote), std::move(copy), memory_size,
                       spills ? settings_.directory : std::string()
                   )
    );
    Entry& entry = add(std::move(made));
    // A cache that a restart empties is better than none.
    if (auto kept = keep(entry); !kept) {
        log_warning(
            "image {}: its cache will not outlive this broker: {}", id, kept.error().message()
        );
        for (const FdRole role : std::exchange(entry.stored, {}))
            store_.remove(stored_name(id, role));
    }
    return entry.image.get();
}

Result<> ChunkCache::adopt(const std::string& id, std::map<FdRole, Fd>& stored) {
    std::vector<FdRole> roles;
    for (const FdRole role : kChunkRoles)
        if (stored.contains(role)) roles.push_back(role);
    if (roles.empty()) return {};
    const auto adopt_all = [&]() -> Result<std::unique_ptr<ChunkImage>> {
        ChunkFiles files{
            .data = take(stored, FdRole::Chunks),
            .index = take(stored, FdRole::ChunkIndex),
            .spill = take(stored, FdRole::Spill),
        };
        Fd map = take(stored, FdRole::ChunkMap);
        const Fd description = take(stored, FdRole::Remote);
        Fd file = take(stored, FdRole::RemoteFile);
        if (!files.data || !files.index || !map || !description)
            return fail(EBADMSG, "not all of it was kept");
        THAW_TRY(auto remote, load_remote_memory(description.get()));
        remote.file = std::move(file);
        return ChunkImage::adopt(id, std::move(remote), std::move(files), std::move(map));
    };
    auto adopted = adopt_all();
    if (!adopted) {
        for (const FdRole role : roles)
            store_.remove(stored_name(id, role));
        return std::unexpected(std::move(adopted).error().with_context(id));
    }
    ChunkImage& image = **adopted;
    for (std::uint64_t chunk = 0; chunk < image.count(); ++chunk) {
        if (image.chunk(chunk).state == Chunk::State::Whole) ++in_memory_;
        if (image.map().is_on_disk(chunk)) ++on_disk_;
    }
    add(std::move(*adopted)).stored = std::move(roles);
    return {};
}

void ChunkCache::attach(ChunkImage& image, ChunkUser& user) {
    image.users().push_back(&user);
    image.set_name(user.image_name());
}

void ChunkCache::detach(ChunkImage& image, ChunkUser& user) {
    std::erase(image.users(), &user);
    for (std::uint64_t number = 0; number < image.count(); ++number) {
        Chunk& chunk = image.chunk(number);
        std::erase_if(chunk.waiters, [&](const auto& waiter) { return waiter.user == &user; });
        std::erase(chunk.readers, &user);
    }
    if (image.users().empty()) entry_of(image).idle_since = now_monotonic();
}

void ChunkCache::remove(const std::string& id) {
    const auto found = images_.find(id);
    ChunkImage& image = *found->second.image;
    for (std::uint64_t chunk = 0; chunk < image.count(); ++chunk) {
        if (image.chunk(chunk).state != Chunk::State::Absent) --in_memory_;
        if (image.map().is_on_disk(chunk)) --on_disk_;
    }
    const auto of_image = [&](const Place& place) { return place.image == &image; };
    std::erase_if(queue_, of_image);
    std::erase_if(ahead_, of_image);
    for (const FdRole role : found->second.stored)
        store_.remove(stored_name(id, role));
    images_.erase(found);
}

void ChunkCache::tick_later() {
    if (tick_) {
        if (auto armed = tick_.rearm(kTick); !armed) log_warning("{}", armed.error().message());
        return;
    }
    auto timer = loop_.add_timer(kTick, [this] { on_tick(); }, "chunk-cache", priority::kCollect);
    if (timer) tick_ = std::move(*timer);
}

void ChunkCache::on_tick() {
    const auto now = now_monotonic();
    std::vector<std::string> idle;
    for (const auto& [id, entry] : images_)
        if (entry.image->users().empty() && entry.busy == 0 &&
            now >= entry.idle_since + settings_.idle)
            idle.push_back(id);
    for (const auto& id : idle)
        remove(id);
    if (images_.empty()) return; // the next image begins anew
    tick_later();
}

bool ChunkCache::is_kept(const ChunkImage& image) const {
    const auto found = images_.find(image.id());
    return found != images_.end() && !found->second.stored.empty();
}

std::size_t ChunkCache::descriptors() const {
    std::size_t sum = 0;
    for (const auto& [id, entry] : images_)
        sum += entry.stored.size();
    return sum;
}

std::uint64_t ChunkCache::memory_used() const {
    std::uint64_t sum = 0;
    for (const auto& [id, entry] : images_)
        sum += entry.image->memory_used();
    return sum;
}

std::uint64_t ChunkCache::disk_used() const {
    std::uint64_t sum = 0;
    for (const auto& [id, entry] : images_)
        sum += entry.image->disk_used();
    return sum;
}

} // namespace thaw::pagerd
