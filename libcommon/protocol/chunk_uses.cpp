// SPDX-License-Identifier: MIT
#include "protocol/chunk_uses.hpp"

#include "core/memfd.hpp"
#include "protocol/session_layout.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <utility>

namespace thaw::protocol {

namespace {

std::size_t size_of_uses(std::uint64_t chunk_count) {
    return static_cast<std::size_t>(chunk_count * sizeof(std::uint32_t));
}

} // namespace

Result<ChunkUses> ChunkUses::create(std::uint64_t chunk_count) {
    const std::size_t size = size_of_uses(chunk_count);
    THAW_TRY(Fd fd, make_sized_memfd("thaw-chunk-uses", size));
    // Allocated whole: no store meets a page that cannot be had.
    if (::fallocate(fd.get(), 0, 0, static_cast<off_t>(size)) != 0)
        return fail_errno(errno, "allocate chunk uses of {} bytes", size);
    return map(std::move(fd), chunk_count);
}

Result<ChunkUses> ChunkUses::map(Fd memfd, std::uint64_t chunk_count) {
    struct stat status{};
    if (::fstat(memfd.get(), &status) != 0) return fail_errno(errno, "stat the chunk uses");
    const std::size_t size = size_of_uses(chunk_count);
    if (!has_fixed_size(memfd.get()) || static_cast<std::uint64_t>(status.st_size) != size)
        return fail(EBADMSG, "chunk uses: no memfd of {} chunks", chunk_count);
    void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
    if (base == MAP_FAILED) return fail_errno(errno, "map the chunk uses");
    ChunkUses uses;
    uses.fd_ = std::move(memfd);
    uses.uses_ = static_cast<std::atomic<std::uint32_t>*>(base);
    uses.count_ = chunk_count;
    return uses;
}

ChunkUses::ChunkUses(ChunkUses&& other) noexcept {
    *this = std::move(other);
}

ChunkUses& ChunkUses::operator=(ChunkUses&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(uses_, other.uses_);
    std::swap(count_, other.count_);
    return *this;
}

ChunkUses::~ChunkUses() {
    if (uses_ != nullptr) ::munmap(uses_, size_of_uses(count_));
}

std::uint32_t ChunkUses::last_use(std::uint64_t chunk) const {
    THAW_INVARIANT(chunk < count_);
    return uses_[chunk].load(std::memory_order_relaxed);
}

void ChunkUses::note(std::uint64_t chunk, std::uint64_t now_ns) const {
    THAW_INVARIANT(chunk < count_);
    uses_[chunk].store(
        static_cast<std::uint32_t>(now_ns >> kChunkUseShift), std::memory_order_relaxed
    );
}

} // namespace thaw::protocol
