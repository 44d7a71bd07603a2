// SPDX-License-Identifier: MIT
#include "chunk_work.hpp"

#include "core/file.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <span>

namespace thaw::pagerd {

using image::kMapPageSize;

namespace {

// What O_DIRECT asks of a buffer, on every disk there is.
constexpr std::size_t kAlignment = 4096;

struct FreeBytes {
    void operator()(std::byte* bytes) const { std::free(bytes); }
};
using AlignedBytes = std::unique_ptr<std::byte, FreeBytes>;

Result<AlignedBytes> allocate(std::uint64_t length) {
    AlignedBytes bytes(static_cast<std::byte*>(std::aligned_alloc(kAlignment, length)));
    if (!bytes) return fail(ENOMEM, "no memory for a chunk");
    return bytes;
}

Result<> pwrite_all(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
    while (!bytes.empty()) {
        const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail_errno(errno, "write a chunk");
        if (put == 0) return fail(ENOSPC, "write a chunk: nothing was written");
        bytes = bytes.subspan(static_cast<std::size_t>(put));
        offset += static_cast<std::uint64_t>(put);
    }
    return {};
}

} // namespace

Result<std::vector<std::uint64_t>>
read_chunk_hashes(const ChunkFiles& files, image::MapReader::ListPlace place) {
    std::vector<std::uint64_t> hashes(place.size / sizeof(std::uint64_t));
    THAW_CHECK(
        pread_exact(files.index.get(), std::as_writable_bytes(std::span(hashes)), place.offset)
    );
    return hashes;
}

Result<> spill_chunk(const ChunkFiles& files, ChunkPlace place) {
    THAW_TRY(const auto buffer, allocate(place.length));
    const std::span bytes(buffer.get(), place.length);
    THAW_CHECK(pread_exact(files.data.get(), bytes, place.offset));
    return pwrite_all(files.spill.get(), bytes, place.offset);
}

Result<>
load_chunk(const ChunkFiles& files, ChunkPlace place, const std::vector<std::uint64_t>& hashes) {
    THAW_TRY(const auto buffer, allocate(place.length));
    const std::span bytes(buffer.get(), place.length);
    THAW_CHECK(pread_exact(files.spill.get(), bytes, place.offset));
    for (std::size_t page = 0; page < hashes.size(); ++page)
        if (image::hash_page(bytes.data() + page * kMapPageSize) != hashes[page])
            return fail(EBADMSG, "page {} of a chunk on disk is not what was sealed", page);
    return pwrite_all(files.data.get(), bytes, place.offset);
}

Result<> drop_spilled(const ChunkFiles& files, ChunkPlace place) {
    constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (::fallocate(
            files.spill.get(), kMode, static_cast<off_t>(place.offset),
            static_cast<off_t>(place.length)
        ) != 0)
        return fail_errno(errno, "give the room of a chunk on disk back");
    return {};
}

Result<std::uint64_t> free_bytes(const ChunkFiles& files) {
    struct statvfs space{};
    if (::fstatvfs(files.spill.get(), &space) != 0)
        return fail_errno(errno, "look at the cache's file system");
    return static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
}

} // namespace thaw::pagerd
