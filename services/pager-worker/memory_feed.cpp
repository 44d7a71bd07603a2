// SPDX-License-Identifier: MIT
#include "memory_feed.hpp"

#include "bulk_mover.hpp"

#include <algorithm>

namespace thaw::worker {

using protocol::kBitPage;

namespace {

constexpr std::uint64_t kZeroPages = 4096; // 16 MiB: a millisecond of UFFDIO_ZEROPAGE at 90 ns/page
// Probing and installing a piece from the mapping takes four system calls.
constexpr std::uint64_t kDirectPages = 256;

} // namespace

// One look serves for a stretch: looking costs as much as installing a page.
bool MemoryFeed::is_at_hand(std::uint64_t page, std::uint64_t count) {
    if (page >= hot_first_ && page + count <= hot_end_) return true;
    const std::uint64_t stretch = std::min(kDirectPages, parts_.memory.page_count() - page);
    const std::uint64_t wanted = std::max(count, stretch);
    if (!parts_.source.is_mapping_at_hand(page * kBitPage, wanted * kBitPage)) return false;
    hot_first_ = page;
    hot_end_ = page + wanted;
    return true;
}

std::optional<Piece> MemoryFeed::piece_at(std::uint64_t page, std::uint64_t run) {
    const std::uint64_t kind = std::min(run, parts_.source.run_length(page, run));
    if (parts_.source.is_zero(page * kBitPage, kBitPage)) {
        page_ = page + std::min(kind, kZeroPages);
        if (cause_ == Cause::Replay) return std::nullopt;
        return Piece{.kind = Piece::Kind::Zero, .first = page, .count = page_ - page};
    }
    const std::uint64_t direct = std::min(kind, kDirectPages);
    if (is_at_hand(page, direct)) {
        page_ = page + direct;
        return Piece{.kind = Piece::Kind::Direct, .first = page, .count = direct};
    }
    // Short zero runs between data are read along with it.
    return read_piece(page, std::min(run, BulkMover::kBufferSize / kBitPage));
}

// One page, whole: buffers and zeros are as large as that.
std::optional<Piece> MemoryFeed::huge_piece_at(std::uint64_t page, std::uint64_t pages) {
    page_ = page + pages;
    if (parts_.source.is_zero(page * kBitPage, pages * kBitPage)) {
        if (cause_ == Cause::Replay) return std::nullopt;
        return Piece{.kind = Piece::Kind::Zero, .first = page, .count = pages};
    }
    if (is_at_hand(page, pages))
        return Piece{.kind = Piece::Kind::Direct, .first = page, .count = pages};
    return read_piece(page, pages);
}

Piece MemoryFeed::read_piece(std::uint64_t page, std::uint64_t pages) {
    page_ = page + pages;
    return Piece{
        .kind = Piece::Kind::File,
        .fd = -1,
        .offset = page * kBitPage,
        .length = pages * kBitPage,
        .first = page,
        .count = pages,
    };
}

std::optional<Piece> MemoryFeed::next() {
    const std::uint64_t end = parts_.memory.page_count();
    while (page_ < end) {
        const auto at = parts_.regions.at_offset(page_ * kBitPage);
        if (!at) {
            ++page_; // between regions: rare and cheap
            continue;
        }
        const bool huge = at->bit_count() > 1;
        if (cause_ == Cause::Replay && budget_ < (huge ? at->page_size : 1)) {
            over_budget_ = true;
            return std::nullopt;
        }
        std::uint64_t limit = parts_.regions.pages_after(*at);
        if (cause_ == Cause::Replay && !huge) limit = std::min(limit, budget_ / kBitPage + 1);
        const std::uint64_t skip = parts_.memory.missing_run(page_, limit, false);
        if (skip > 0) {
            page_ += skip;
            continue;
        }
        // No further than a piece goes.
        const std::uint64_t most = std::max(
            {BulkMover::kBufferSize / kBitPage, at->bit_count(),
             parts_.source.run_length(page_, std::min(limit, kZeroPages))}
        );
        const std::uint64_t run = parts_.memory.missing_run(page_, std::min(limit, most), true);
        if (huge) { // whole pages; one that lost a part is left as it is
            const std::uint64_t into = parts_.regions.pages_into(*at, page_);
            if (into != 0 || run < at->bit_count()) {
                page_ += at->bit_count() - into;
                continue;
            }
        }
        auto piece = huge ? huge_piece_at(page_, at->bit_count()) : piece_at(page_, run);
        if (!piece) continue;
        budget_ -= std::min(budget_, piece->length);
        return piece;
    }
    return std::nullopt;
}

std::optional<SourceError> MemoryFeed::check(
    const Piece& piece, std::span<const std::byte> bytes,
    std::optional<image::MapReader::ListPlace>& missing
) {
    return parts_.source.check(piece.offset, bytes, missing);
}

Feed::Step MemoryFeed::install(
    const Piece& piece, const std::byte* bytes, std::uint64_t& cursor, std::uint64_t pages
) {
    if (piece.kind == Piece::Kind::Direct) bytes = parts_.source.mapping_at(piece.first * kBitPage);
    // Zeros cost a tenth.
    const std::uint64_t most = piece.kind == Piece::Kind::Zero ? kZeroPages : pages;
    std::uint64_t here = std::min(most, piece.count - cursor);
    const std::uint64_t page = piece.first + cursor;
    // A zero run in what was read is installed as one where it is long enough to pay.
    const bool zero =
        piece.kind != Piece::Kind::Zero && parts_.source.is_zero(page * kBitPage, kBitPage);
    if (piece.kind != Piece::Kind::Zero)
        here = std::min(here, parts_.source.run_length(page, here));
    const auto at = parts_.regions.at_offset(page * kBitPage);
    if (at && at->bit_count() > 1) here = piece.count - cursor; // huge pages go whole
    const bool as_zeros =
        piece.kind == Piece::Kind::Zero || (zero && (!at || at->bit_count() == 1));
    Step step;
    step.result =
        parts_.installer.fill(cause_, {page, here}, as_zeros ? nullptr : bytes + cursor * kBitPage);
    cursor += step.result.pages;
    step.finished = cursor >= piece.count;
    return step;
}

} // namespace thaw::worker
