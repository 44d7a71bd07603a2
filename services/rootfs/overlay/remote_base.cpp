// SPDX-License-Identifier: MIT
#include "overlay/remote_base.hpp"

#include "core/file.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace thaw::rootfs {

using image::kMapPageSize;
using protocol::kChunkSize;

namespace {

// Of whoever reads on from one chunk into the next.
constexpr std::uint32_t kAhead = 2;

std::uint64_t now_ns() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(now).count()
    );
}

} // namespace

RemoteBase::RemoteBase(
    std::unique_ptr<ChunkLink> link, image::MapReader zeros, const ContentDigest& digest
)
    : link_(std::move(link)), zeros_(std::move(zeros)), size_(link_->view()->map.memory_size()),
      digest_(digest) {}

Result<std::unique_ptr<RemoteBase>>
RemoteBase::connect(const std::string& socket, const ContentDigest& digest) {
    THAW_TRY(auto link, ChunkLink::connect(socket));
    const auto view = link->view();
    THAW_TRY(
        auto zeros, image::MapReader::open(
                        view->index.get(), view->map.image(), view->map.memory_size() / kMapPageSize
                    )
    );
    return std::unique_ptr<RemoteBase>(new RemoteBase(std::move(link), std::move(zeros), digest));
}

Result<> RemoteBase::read(std::uint64_t offset, std::span<std::byte> out) {
    const auto deadline = ChunkLink::Clock::now() + ChunkLink::kPatience;
    while (!out.empty()) {
        const std::uint64_t page = offset / kMapPageSize;
        const std::uint64_t skip = offset % kMapPageSize;
        const std::uint64_t in_chunk =
            std::min<std::uint64_t>(out.size(), kChunkSize - offset % kChunkSize);
        const std::uint64_t pages = (skip + in_chunk + kMapPageSize - 1) / kMapPageSize;
        const std::uint64_t run = zeros_.run_length(page, pages) * kMapPageSize - skip;
        const auto piece = out.first(std::min(in_chunk, run));
        if (zeros_.is_zero(page, 1))
            std::memset(piece.data(), 0, piece.size());
        else
            THAW_CHECK(read_piece(offset, piece, deadline));
        offset += piece.size();
        out = out.subspan(piece.size());
    }
    return {};
}

// Within one chunk, which may be taken away at any moment: then the bytes are read again.
Result<> RemoteBase::read_piece(
    std::uint64_t offset, std::span<std::byte> out, ChunkLink::Clock::time_point deadline
) {
    const auto chunk = static_cast<std::uint32_t>(offset / kChunkSize);
    const auto pages = static_cast<std::uint32_t>(
        (offset % kChunkSize + out.size() + kMapPageSize - 1) / kMapPageSize
    );
    for (;;) {
        const auto view = link_->view();
        const auto generation = view->map.generation(chunk);
        if (view->map.ready(chunk) >= pages) {
            THAW_CHECK(pread_exact(view->data.get(), out, offset));
            if (view->map.generation(chunk) != generation) continue;
            view->uses.note(chunk, now_ns());
            return {};
        }
        if (ChunkLink::Clock::now() >= deadline)
            return fail(ETIMEDOUT, "chunk {} of the base does not stay", chunk);
        const bool reads_on = last_missed_.exchange(chunk) + 1 == chunk;
        THAW_CHECK(link_->want(chunk, pages, reads_on ? kAhead : 0, deadline));
    }
}

BaseImage::Extent RemoteBase::extent(std::uint64_t offset, std::uint64_t length) {
    const std::uint64_t page = offset / kMapPageSize;
    const std::uint64_t skip = offset % kMapPageSize;
    const std::uint64_t pages = (skip + length + kMapPageSize - 1) / kMapPageSize;
    const std::uint64_t run = zeros_.run_length(page, pages) * kMapPageSize - skip;
    return {.length = std::min(run, length), .hole = zeros_.is_zero(page, 1)};
}

std::uint64_t RemoteBase::tag() const {
    std::uint64_t tag = 0;
    std::memcpy(&tag, digest_.data(), sizeof tag);
    return tag;
}

Result<protocol::BaseIdentity> RemoteBase::identity() const {
    return protocol::BaseIdentity{
        .kind = protocol::BaseKind::Content, .size = size_, .id = digest_
    };
}

} // namespace thaw::rootfs
