// SPDX-License-Identifier: MIT
#include "chunk_gate.hpp"

#include "protocol/session_layout.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace thaw::worker {

using protocol::kBitPage;
using protocol::kChunkSize;

namespace {

// An answer that was lost costs no more than this. A broker that fetches is not bothered by it: it
// knows who waits.
constexpr std::uint64_t kAskAgainNs = 1'000 * kNsPerMs;

std::uint32_t pages_needed(std::uint64_t offset, std::uint64_t length) {
    return static_cast<std::uint32_t>((offset % kChunkSize + length + kBitPage - 1) / kBitPage);
}

} // namespace

std::uint64_t ChunkGate::limit(std::uint64_t offset, std::uint64_t length) {
    return std::min(length, kChunkSize - offset % kChunkSize);
}

bool ChunkGate::is_ready(std::uint64_t offset, std::uint64_t length) const {
    return map_.ready(offset / kChunkSize) >= pages_needed(offset, limit(offset, length));
}

Result<bool> ChunkGate::try_read(std::uint64_t offset, std::span<std::byte> target) {
    THAW_INVARIANT(limit(offset, target.size()) == target.size());
    const std::uint64_t chunk = offset / kChunkSize;
    auto& used = memory_.state().used_chunk;
    used.store(chunk + 1, std::memory_order_seq_cst);
    if (!is_ready(offset, target.size())) {
        used.store(0, std::memory_order_release);
        return false;
    }
    ssize_t got = -1;
    do
        got = ::pread(data_, target.data(), target.size(), static_cast<off_t>(offset));
    while (got < 0 && errno == EINTR);
    const int code = errno;
    used.store(0, std::memory_order_release);
    if (got < 0) return fail_errno(code, "read the chunk cache");
    if (got != static_cast<ssize_t>(target.size()))
        return fail(ENODATA, "the chunk cache is too short");
    memory_.note_chunk_use(chunk, now_ns());
    return true;
}

void ChunkGate::finish(const ReadRequest& request, std::int64_t result) {
    ends_.push_back({.token = request.token, .result = result});
}

void ChunkGate::read(const ReadRequest& request) {
    const auto done = try_read(request.offset, request.target);
    if (!done) return finish(request, -done.error().code());
    if (*done) return finish(request, static_cast<std::int64_t>(request.target.size()));
    const std::uint64_t chunk = request.offset / kChunkSize;
    if (waiting_.empty()) next_ask_ns_ = now_ns() + kAskAgainNs;
    waiting_.emplace(chunk, request);
    ask(chunk);
}

void ChunkGate::ask(std::uint64_t chunk) {
    // The nearest first; who needs more asks again when that has landed.
    std::uint32_t pages = protocol::kChunkPages;
    const auto [first, last] = waiting_.equal_range(chunk);
    for (auto it = first; it != last; ++it)
        pages = std::min(pages, pages_needed(it->second.offset, it->second.target.size()));
    ask_({
        .chunk = static_cast<std::uint32_t>(chunk),
        .pages = pages,
        .ahead = std::min(ahead_, protocol::kMostChunksAhead),
    });
}

void ChunkGate::landed(std::uint32_t chunk) {
    const auto [first, last] = waiting_.equal_range(chunk);
    bool left = false;
    for (auto it = first; it != last;) {
        const auto done = try_read(it->second.offset, it->second.target);
        if (done && !*done) { // more of it has to land, or it was taken away again
            left = true;
            ++it;
            continue;
        }
        finish(
            it->second,
            done ? static_cast<std::int64_t>(it->second.target.size()) : -done.error().code()
        );
        it = waiting_.erase(it);
    }
    if (left) ask(chunk);
}

void ChunkGate::failed(std::uint32_t chunk, int errno_value) {
    // Hostile input: an end needs an error.
    const int code = errno_value > 0 ? errno_value : EIO;
    const auto [first, last] = waiting_.equal_range(chunk);
    for (auto it = first; it != last; ++it)
        finish(it->second, -code);
    waiting_.erase(first, last);
}

void ChunkGate::ask_again(std::uint64_t now) {
    next_ask_ns_ = now + kAskAgainNs;
    for (auto it = waiting_.begin(); it != waiting_.end();) {
        const auto chunk = static_cast<std::uint32_t>(it->first);
        landed(chunk); // its answer may have been the one that was lost
        it = waiting_.upper_bound(chunk);
    }
}

} // namespace thaw::worker
