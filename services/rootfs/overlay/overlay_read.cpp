// SPDX-License-Identifier: MIT
#include "overlay/overlay.hpp"

#include <algorithm>
#include <cstring>

namespace thaw::rootfs {

namespace {

// Blocks that the bytes touch, the first one given.
std::uint64_t blocks_touched(std::uint64_t offset, std::uint64_t length) {
    return blocks_of(offset % kBlockSize + length);
}

} // namespace

Result<> Overlay::read(std::uint64_t offset, std::span<std::byte> out) {
    THAW_CHECK(check_range(offset, out.size()));
    if (out.empty()) return {};
    const RangeLocks::Guard guard(
        locks_, offset / kBlockSize, blocks_touched(offset, out.size()), RangeLocks::Mode::Shared
    );
    auto done = read_blocks(offset, out);
    ++counters_.reads;
    if (done)
        counters_.read_bytes += out.size();
    else
        ++counters_.failed_reads;
    return done;
}

// Run by run: neighbours that lie side by side are one read.
Result<> Overlay::read_blocks(std::uint64_t offset, std::span<std::byte> out) {
    while (!out.empty()) {
        const std::uint64_t block = offset / kBlockSize;
        const std::uint64_t skip = offset % kBlockSize;
        const std::uint64_t most = blocks_touched(offset, out.size());
        const Location first = map_.get(block);
        std::uint32_t count = 1;
        while (count < most && map_.get(block + count) == first.plus(count))
            ++count;
        const std::uint64_t take =
            std::min<std::uint64_t>(out.size(), std::uint64_t{count} * kBlockSize - skip);
        THAW_CHECK(read_run(first, offset, out.first(take)));
        offset += take;
        out = out.subspan(take);
    }
    return {};
}

Result<> Overlay::read_run(Location location, std::uint64_t offset, std::span<std::byte> out) {
    switch (location.kind) {
    case Kind::Base:
        return read_base(offset, out);
    case Kind::Zero:
        std::memset(out.data(), 0, out.size());
        return {};
    case Kind::Memory:
    case Kind::Disk:
        break;
    }
    const std::uint64_t where = (std::uint64_t{location.slot} << kBlockShift) + offset % kBlockSize;
    return tier(location.kind).read(where, out);
}

Result<> Overlay::read_base(std::uint64_t offset, std::span<std::byte> out) {
    const std::uint64_t end = base_->size();
    const std::uint64_t there =
        offset < end ? std::min<std::uint64_t>(out.size(), end - offset) : 0;
    if (there < out.size()) std::memset(out.data() + there, 0, out.size() - there);
    if (there == 0) return {};
    return base_->read(offset, out.first(there));
}

void Overlay::extents(
    std::uint64_t offset, std::uint64_t length, const std::function<bool(const Extent&)>& take
) {
    // Looked at in pieces: nobody waits for the whole disk to be described.
    constexpr std::uint64_t kPiece = 64 << 20;
    if (!check_range(offset, length)) return;
    Extent pending{.offset = offset, .length = 0, .zero = false};
    const auto add = [&](std::uint64_t bytes, bool zero) {
        if (pending.length > 0 && pending.zero != zero) {
            if (!take(pending)) return false;
            pending = {.offset = pending.offset + pending.length, .length = 0, .zero = zero};
        }
        pending.zero = zero;
        pending.length += bytes;
        return true;
    };
    const std::uint64_t end = offset + length;
    while (offset < end) {
        const std::uint64_t piece_end = std::min(end, (offset / kPiece + 1) * kPiece);
        const RangeLocks::Guard guard(
            locks_, offset / kBlockSize, blocks_touched(offset, piece_end - offset),
            RangeLocks::Mode::Shared
        );
        while (offset < piece_end) {
            const Kind kind = map_.get(offset / kBlockSize).kind;
            std::uint64_t next = (offset / kBlockSize + 1) * kBlockSize;
            while (next < piece_end && map_.get(next / kBlockSize).kind == kind)
                next += kBlockSize;
            std::uint64_t bytes = std::min(next, piece_end) - offset;
            bool zero = kind == Kind::Zero;
            if (kind == Kind::Base && offset >= base_->size()) {
                zero = true;
            } else if (kind == Kind::Base) {
                const auto extent = base_->extent(offset, std::min(bytes, base_->size() - offset));
                bytes = extent.length;
                zero = extent.hole;
            }
            if (!add(bytes, zero)) return;
            offset += bytes;
        }
    }
    if (pending.length > 0) static_cast<void>(take(pending));
}

} // namespace thaw::rootfs
