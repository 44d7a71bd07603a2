// SPDX-License-Identifier: MIT
#include "protocol/chunk_map.hpp"

#include "core/memfd.hpp"
#include "protocol/session_layout.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace thaw::protocol {

namespace {

constexpr std::uint64_t kChunkMapMagic = 0x324b'4e48'4357'4854; // "THWCHNK2"

} // namespace

struct ChunkMap::Header {
    std::uint64_t magic;
    std::uint64_t chunk_size;
    std::uint64_t memory_size;
    std::uint8_t image[16];
    std::uint64_t reserved[3];
};

namespace {

constexpr std::size_t kHeaderSize = 64;
constexpr std::size_t kEntrySize = 16;

constexpr std::uint64_t chunks_of(std::uint64_t memory_size) {
    return (memory_size + kChunkSize - 1) / kChunkSize;
}

std::size_t bytes_of(std::uint64_t memory_size) {
    return kHeaderSize + chunks_of(memory_size) * kEntrySize;
}

Result<std::byte*> map_shared(int fd, std::size_t size, int protection) {
    void* base = ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) return fail_errno(errno, "map the chunk map");
    return static_cast<std::byte*>(base);
}

} // namespace

Result<ChunkMap> ChunkMap::create(const ImageId& image, std::uint64_t memory_size) {
    static_assert(sizeof(Header) == kHeaderSize);
    static_assert(sizeof(Entry) == kEntrySize);
    if (memory_size == 0 || memory_size > kMaxMemorySize || memory_size % kBitPage != 0)
        return fail(EINVAL, "chunk map: bad memory size {}", memory_size);
    const std::size_t size = bytes_of(memory_size);
    THAW_TRY(Fd fd, make_sized_memfd("thaw-chunk-map", size));
    // Allocated whole: nobody meets a page that cannot be had.
    if (::fallocate(fd.get(), 0, 0, static_cast<off_t>(size)) != 0)
        return fail_errno(errno, "allocate a chunk map of {} bytes", size);
    Header header{
        .magic = kChunkMapMagic,
        .chunk_size = kChunkSize,
        .memory_size = memory_size,
        .image = {},
        .reserved = {},
    };
    std::ranges::copy(image, header.image);
    if (::pwrite(fd.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header))
        return fail_errno(errno, "write a chunk map");
    return map(std::move(fd), Access::Write);
}

Result<ChunkMap> ChunkMap::map(Fd memfd, Access access) {
    struct stat status{};
    if (::fstat(memfd.get(), &status) != 0) return fail_errno(errno, "stat the chunk map");
    if (!has_fixed_size(memfd.get())) return fail(EBADMSG, "chunk map: no memfd of a fixed size");
    ChunkMap map;
    map.size_ = static_cast<std::size_t>(status.st_size);
    if (map.size_ < kHeaderSize) return fail(EBADMSG, "chunk map: too short");
    const int protection = access == Access::Write ? PROT_READ | PROT_WRITE : PROT_READ;
    THAW_TRY(map.base_, map_shared(memfd.get(), map.size_, protection));
    map.fd_ = std::move(memfd);
    Header header{};
    std::memcpy(&header, map.base_, sizeof header);
    if (header.magic != kChunkMapMagic || header.chunk_size != kChunkSize)
        return fail(EBADMSG, "chunk map: not one of this version");
    if (header.memory_size == 0 || header.memory_size > kMaxMemorySize ||
        header.memory_size % kBitPage != 0 || bytes_of(header.memory_size) != map.size_)
        return fail(EBADMSG, "chunk map: {} bytes do not fit its memory size", map.size_);
    std::ranges::copy(header.image, map.image_.begin());
    map.memory_size_ = header.memory_size;
    map.chunk_count_ = chunks_of(header.memory_size);
    return map;
}

ChunkMap::ChunkMap(ChunkMap&& other) noexcept {
    *this = std::move(other);
}

ChunkMap& ChunkMap::operator=(ChunkMap&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    std::swap(image_, other.image_);
    std::swap(memory_size_, other.memory_size_);
    std::swap(chunk_count_, other.chunk_count_);
    return *this;
}

ChunkMap::~ChunkMap() {
    if (base_ != nullptr) ::munmap(base_, size_);
}

ChunkMap::Entry& ChunkMap::entry(std::uint64_t chunk) const {
    THAW_INVARIANT(chunk < chunk_count_);
    return reinterpret_cast<Entry*>(base_ + kHeaderSize)[chunk];
}

std::uint32_t ChunkMap::pages_of(std::uint64_t chunk) const {
    if (chunk >= chunk_count_) return 0;
    const std::uint64_t rest = memory_size_ - chunk * kChunkSize;
    return static_cast<std::uint32_t>(std::min(rest, kChunkSize) / kBitPage);
}

std::uint32_t ChunkMap::ready(std::uint64_t chunk) const {
    return std::min(entry(chunk).ready.load(std::memory_order_seq_cst), pages_of(chunk));
}

std::uint32_t ChunkMap::generation(std::uint64_t chunk) const {
    return entry(chunk).generation.load(std::memory_order_seq_cst);
}

void ChunkMap::set_ready(std::uint64_t chunk, std::uint32_t pages) {
    Entry& changed = entry(chunk);
    // In this order: who meets the new generation meets the pages gone as well.
    const auto before = changed.ready.exchange(pages, std::memory_order_seq_cst);
    if (pages < before) changed.generation.fetch_add(1, std::memory_order_seq_cst);
}

void ChunkMap::forget(std::uint64_t chunk) {
    Entry& changed = entry(chunk);
    changed.ready.store(0, std::memory_order_seq_cst);
    changed.generation.fetch_add(1, std::memory_order_seq_cst);
}

bool ChunkMap::is_on_disk(std::uint64_t chunk) const {
    return entry(chunk).on_disk.load(std::memory_order_relaxed) != 0;
}

void ChunkMap::set_on_disk(std::uint64_t chunk, bool there) {
    entry(chunk).on_disk.store(there ? 1 : 0, std::memory_order_relaxed);
}

Result<Fd> reopen_read_only(int memfd) {
    Fd fd(::open(fmt::format("/proc/self/fd/{}", memfd).c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno(errno, "open a memfd again");
    return fd;
}

} // namespace thaw::protocol
