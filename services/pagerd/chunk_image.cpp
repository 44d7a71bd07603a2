// SPDX-License-Identifier: MIT
#include "chunk_image.hpp"

#include "core/file.hpp"
#include "core/memfd.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <span>
#include <utility>

namespace thaw::pagerd {

using image::kMapPageSize;
using protocol::kChunkSize;

namespace {

// How long a session that was told of a chunk keeps it from being taken away again.
constexpr Microseconds kReadGrace = kUsecPerSec;
constexpr std::size_t kVerifyBytes = 256 << 10;
constexpr std::uint64_t kStatBlock = 512; // what st_blocks counts, on every file system

// Without a name it goes with its last descriptor, whatever happens.
Result<Fd> make_spill(const std::string& directory, std::uint64_t size) {
    THAW_TRY(Fd fd, open_file(directory, O_TMPFILE | O_RDWR | O_DIRECT, 0600));
    if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
        return fail_errno(errno, "size {}", directory);
    return fd;
}

std::uint64_t allocated(int fd) {
    struct stat status{};
    if (fd < 0 || ::fstat(fd, &status) != 0) return 0;
    return static_cast<std::uint64_t>(status.st_blocks) * kStatBlock;
}

} // namespace

Result<> ChunkImage::open_index() {
    chunks_.resize(map_.chunk_count());
    const std::uint64_t pages = map_.memory_size() / kMapPageSize;
    THAW_TRY(auto index, image::MapReader::open(files_->index.get(), map_.image(), pages));
    index_ = std::make_unique<image::MapReader>(std::move(index));
    return {};
}

Result<std::unique_ptr<ChunkImage>> ChunkImage::create(
    std::string id, RemoteMemory remote, Fd index, std::uint64_t memory_size,
    const std::string& directory
) {
    THAW_TRY(const auto image, image::parse_id(id));
    THAW_TRY(auto map, protocol::ChunkMap::create(image, memory_size));
    ChunkFiles files{.data = {}, .index = std::move(index), .spill = {}};
    // Sealed against resizing only: a seal against writing would forbid to give chunks back.
    THAW_TRY(files.data, make_sized_memfd("thaw-chunks", memory_size));
    if (!directory.empty()) {
        THAW_TRY(files.spill, make_spill(directory, memory_size));
    }
    auto made =
        std::unique_ptr<ChunkImage>(new ChunkImage(std::move(id), std::move(remote), std::move(map))
        );
    made->files_ = std::make_shared<const ChunkFiles>(std::move(files));
    THAW_CHECK(made->open_index());
    return made;
}

Result<std::unique_ptr<ChunkImage>>
ChunkImage::adopt(std::string id, RemoteMemory remote, ChunkFiles files, Fd map) {
    THAW_TRY(
        auto mapped, protocol::ChunkMap::map(std::move(map), protocol::ChunkMap::Access::Write)
    );
    struct stat status{};
    if (::fstat(files.data.get(), &status) != 0) return fail_errno(errno, "stat a chunk cache");
    if (!has_fixed_size(files.data.get()) ||
        static_cast<std::uint64_t>(status.st_size) != mapped.memory_size())
        return fail(EBADMSG, "a chunk cache of another size");
    auto made = std::unique_ptr<ChunkImage>(
        new ChunkImage(std::move(id), std::move(remote), std::move(mapped))
    );
    made->files_ = std::make_shared<const ChunkFiles>(std::move(files));
    THAW_CHECK(made->open_index());
    for (std::uint64_t number = 0; number < made->count(); ++number) {
        if (made->map_.is_whole(number)) {
            made->chunks_[number].state = Chunk::State::Whole;
        } else {
            // Its bytes stay: somebody may be reading what had landed, and the same ones come again
            // as soon as those who waited for the rest ask the new broker.
            made->map_.forget(number);
        }
        if (!made->files_->spill) made->map_.set_on_disk(number, false);
    }
    return made;
}

std::uint64_t ChunkImage::bytes_of(std::uint64_t chunk) const {
    return map_.pages_of(chunk) * kMapPageSize;
}

bool ChunkImage::is_used(std::uint64_t chunk) const {
    return std::ranges::any_of(users_, [&](const ChunkUser* user) {
        return user->is_reading(chunk);
    });
}

namespace {

// Both may wrap around.
bool is_at_or_after(std::uint32_t use, std::uint32_t since) {
    return static_cast<std::int32_t>(use - since) >= 0;
}

std::uint32_t use_of(Microseconds when) {
    constexpr std::uint64_t kNsecPerUsec = 1000;
    return static_cast<std::uint32_t>(when * kNsecPerUsec >> protocol::kChunkUseShift);
}

} // namespace

bool ChunkImage::is_awaited(std::uint64_t number, Microseconds now) {
    Chunk& chunk = chunks_[number];
    if (!chunk.waiters.empty()) return true;
    if (now >= chunk.landed_at + kReadGrace) chunk.readers.clear();
    std::erase_if(chunk.readers, [&](const ChunkUser* user) {
        const std::uint32_t use = user->last_use(number);
        return use != 0 && is_at_or_after(use, use_of(chunk.landed_at));
    });
    return !chunk.readers.empty();
}

std::uint32_t ChunkImage::last_use(std::uint64_t number) const {
    std::uint32_t latest = use_of(chunks_[number].landed_at);
    for (const ChunkUser* user : users_) {
        const std::uint32_t use = user->last_use(number);
        if (use != 0 && is_at_or_after(use, latest)) latest = use;
    }
    return latest;
}

Result<> ChunkImage::verify(std::uint64_t number, std::uint32_t first, std::uint32_t end) {
    const auto& hashes = chunks_[number].hashes;
    THAW_INVARIANT(end <= hashes.size());
    buffer_.resize(kVerifyBytes);
    constexpr std::uint32_t kPages = kVerifyBytes / kMapPageSize;
    for (std::uint32_t page = first; page < end;) {
        const std::uint32_t count = std::min(kPages, end - page);
        const auto bytes = std::span(buffer_).first(count * kMapPageSize);
        THAW_CHECK(pread_exact(files_->data.get(), bytes, number * kChunkSize + page * kMapPageSize)
        );
        for (std::uint32_t i = 0; i < count; ++i)
            if (image::hash_page(bytes.data() + i * kMapPageSize) != hashes[page + i])
                return fail(
                    EBADMSG, "the page at offset {} is not what was sealed",
                    number * kChunkSize + (page + i) * kMapPageSize
                );
        page += count;
    }
    return {};
}

Result<> ChunkImage::punch(std::uint64_t number) {
    constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (::fallocate(
            files_->data.get(), kMode, static_cast<off_t>(number * kChunkSize),
            static_cast<off_t>(bytes_of(number))
        ) != 0)
        return fail_errno(errno, "give the memory of chunk {} back", number);
    return {};
}

std::uint64_t ChunkImage::memory_used() const {
    return allocated(files_->data.get());
}

std::uint64_t ChunkImage::disk_used() const {
    return allocated(files_->spill ? files_->spill.get() : -1);
}

} // namespace thaw::pagerd
