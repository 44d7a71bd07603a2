// SPDX-License-Identifier: MIT
#include "overlay/overlay.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <shared_mutex>

namespace thaw::rootfs {

namespace {

std::span<const std::byte> nth_block(std::span<const std::byte> data, std::uint64_t n) {
    return data.subspan(n * kBlockSize, kBlockSize);
}

// Long requests are done in parts, so that others get their turn between them.
constexpr std::uint64_t kZeroPiece = 64 << 20;

} // namespace

Result<> Overlay::write(std::uint64_t offset, std::span<const std::byte> data, bool fua) {
    THAW_CHECK(check_range(offset, data.size()));
    const auto write = [&]() -> Result<> {
        const std::shared_lock inside(gate_);
        const RangeLocks::Guard guard(
            locks_, offset / kBlockSize, blocks_of(offset % kBlockSize + data.size()),
            RangeLocks::Mode::Exclusive
        );
        auto rest = data;
        auto where = offset;
        const auto advance = [&](std::uint64_t bytes) {
            rest = rest.subspan(bytes);
            where += bytes;
        };
        if (const std::uint64_t skip = where % kBlockSize; skip != 0) {
            const auto part = std::min<std::uint64_t>(rest.size(), kBlockSize - skip);
            THAW_CHECK(write_part(where, rest.first(part)));
            advance(part);
        }
        if (const std::uint64_t whole = rest.size() / kBlockSize * kBlockSize; whole > 0) {
            THAW_CHECK(write_blocks(where / kBlockSize, rest.first(whole)));
            advance(whole);
        }
        if (!rest.empty()) THAW_CHECK(write_part(where, rest));
        return {};
    };
    if (data.empty()) return {};
    ++counters_.writes;
    auto done = write();
    if (done) counters_.written_bytes += data.size();
    return finish(std::move(done), fua);
}

// Less than a block: the rest of it stays what it was.
Result<> Overlay::write_part(std::uint64_t offset, std::span<const std::byte> data) {
    alignas(kBlockSize) thread_local std::array<std::byte, kBlockSize> block;
    const std::uint64_t begin = offset / kBlockSize * kBlockSize;
    THAW_CHECK(read_blocks(begin, block));
    std::memcpy(block.data() + (offset - begin), data.data(), data.size());
    return write_blocks(begin / kBlockSize, block);
}

Result<> Overlay::write_blocks(std::uint64_t block, std::span<const std::byte> data) {
    while (!data.empty()) {
        THAW_TRY(const std::uint32_t count, write_some(block, data));
        block += count;
        data = data.subspan(std::uint64_t{count} * kBlockSize);
    }
    return {};
}

// As many blocks as can be treated alike; at least one.
Result<std::uint32_t> Overlay::write_some(std::uint64_t block, std::span<const std::byte> data) {
    const std::uint64_t most = data.size() / kBlockSize;
    if (all_zero(nth_block(data, 0))) {
        std::uint32_t count = 1;
        while (count < most && all_zero(nth_block(data, count)))
            ++count;
        zero_blocks(block, count);
        return count;
    }
    const Location first = map_.get(block);
    const bool in_place = writable(first);
    std::uint32_t count = 1;
    for (; count < most; ++count) {
        const Location next = map_.get(block + count);
        if (in_place ? !(next == first.plus(count) && writable(next)) : writable(next)) break;
        if (all_zero(nth_block(data, count))) break;
    }
    data = data.first(std::uint64_t{count} * kBlockSize);
    return in_place ? write_in_place(first, data) : write_elsewhere(block, data);
}

Result<std::uint32_t> Overlay::write_in_place(Location location, std::span<const std::byte> data) {
    const SlotRun run{
        .first = location.slot, .count = static_cast<std::uint32_t>(data.size() / kBlockSize)
    };
    THAW_CHECK(tier(location.kind).write(run, data));
    return run.count;
}

Result<std::uint32_t>
Overlay::write_elsewhere(std::uint64_t block, std::span<const std::byte> data) {
    const auto want = static_cast<std::uint32_t>(data.size() / kBlockSize);
    const auto into = [&](Kind kind) -> Result<std::uint32_t> {
        auto& target = tier(kind);
        THAW_TRY(const SlotRun run, target.take(want));
        auto written = target.write(run, data.first(std::uint64_t{run.count} * kBlockSize));
        if (!written) {
            target.retire(run);
            return std::unexpected(std::move(written).error());
        }
        change(block, run.count, {.kind = kind, .slot = run.first});
        return run.count;
    };
    if (!memory_) {
        if (!disk_) return fail(ENOSPC, "the overlay has room neither in memory nor on disk");
        return into(Kind::Disk);
    }
    auto count = into(Kind::Memory);
    // Memory is short: by the budget, by the limit of the unit, or by the host.
    return count || !disk_ ? count : into(Kind::Disk);
}

void Overlay::zero_blocks(std::uint64_t block, std::uint64_t count) {
    const std::uint64_t beyond = blocks_of(base_->size());
    while (count > 0) {
        const auto is_zero = [&](std::uint64_t n) {
            const Kind kind = map_.get(block + n).kind;
            return kind == Kind::Zero || (kind == Kind::Base && block + n >= beyond);
        };
        const bool already = is_zero(0);
        std::uint32_t same = 1;
        while (same < count && is_zero(same) == already)
            ++same;
        if (!already) change(block, same, {.kind = Kind::Zero, .slot = 0});
        block += same;
        count -= same;
    }
}

Result<> Overlay::zero_range(std::uint64_t offset, std::uint64_t length, bool parts) {
    static constexpr std::array<std::byte, kBlockSize> kZeros{};
    const std::shared_lock inside(gate_);
    const RangeLocks::Guard guard(
        locks_, offset / kBlockSize, blocks_of(offset % kBlockSize + length),
        RangeLocks::Mode::Exclusive
    );
    const std::uint64_t end = offset + length;
    // What lies behind the end of the disk belongs to its last block.
    const std::uint64_t last = end == size_ ? blocks_of(end) : end / kBlockSize;
    const std::uint64_t first = blocks_of(offset);
    if (first < last) zero_blocks(first, last - first);
    if (!parts) return {};
    const auto some = [&](std::uint64_t begin, std::uint64_t until) -> Result<> {
        if (begin >= until) return {};
        return write_part(begin, std::span(kZeros).first(until - begin));
    };
    THAW_CHECK(some(offset, std::min(end, first * kBlockSize)));
    if (last >= first) THAW_CHECK(some(last * kBlockSize, end));
    return {};
}

Result<> Overlay::zero_pieces(std::uint64_t offset, std::uint64_t length, bool parts, bool fua) {
    THAW_CHECK(check_range(offset, length));
    ++counters_.writes;
    const std::uint64_t end = offset + length;
    Result<> done;
    while (done && offset < end) {
        const std::uint64_t next = std::min(end, (offset / kZeroPiece + 1) * kZeroPiece);
        done = zero_range(offset, next - offset, parts);
        offset = next;
    }
    return finish(std::move(done), fua);
}

Result<> Overlay::zero(std::uint64_t offset, std::uint64_t length, bool fua) {
    return zero_pieces(offset, length, true, fua);
}

Result<> Overlay::trim(std::uint64_t offset, std::uint64_t length, bool fua) {
    return zero_pieces(offset, length, false, fua);
}

} // namespace thaw::rootfs
