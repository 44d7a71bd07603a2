// SPDX-License-Identifier: MIT
#include "working_set_feed.hpp"

#include <algorithm>
#include <cerrno>

namespace thaw::worker {

using image::WorkingSetRun;
using protocol::kBitPage;

WorkingSetFeed::WorkingSetFeed(
    int fd, image::WorkingSetTable table, const protocol::SessionMemory& memory,
    RunInstaller& installer, std::uint64_t budget, bool checked
)
    : fd_(fd), table_(std::move(table)), memory_(memory), installer_(installer),
      budget_(budget == 0 ? UINT64_MAX : budget), checked_(checked) {
    divide();
}

void WorkingSetFeed::divide() {
    Segment segment;
    std::uint64_t data = 0;
    for (std::size_t i = 0; i < table_.runs.size(); ++i) {
        const WorkingSetRun& run = table_.runs[i];
        segment.pages += run.pages();
        segment.end_run = i + 1;
        if (!run.is_zero()) {
            data += run.pages();
            segment.data_pages += run.pages();
        }
        if (segment.data_pages < table_.header.segment_pages) continue;
        segments_.push_back(segment);
        segment = {.first_run = i + 1, .end_run = i + 1, .data_page = data};
    }
    if (segment.end_run > segment.first_run) segments_.push_back(segment);
}

std::uint64_t WorkingSetFeed::total_bytes() const {
    return (table_.header.data_pages + table_.header.zero_pages) * kBitPage;
}

bool WorkingSetFeed::is_needed(const Segment& segment, bool data_only) const {
    for (std::size_t i = segment.first_run; i < segment.end_run; ++i) {
        const WorkingSetRun& run = table_.runs[i];
        if (data_only && run.is_zero()) continue;
        if (memory_.missing_run(run.first_page, run.pages(), false) < run.pages()) return true;
    }
    return false;
}

std::optional<Piece> WorkingSetFeed::next() {
    while (next_ < segments_.size()) {
        const Segment& segment = segments_[next_];
        if (segment.pages * kBitPage > budget_) {
            over_budget_ = true;
            return std::nullopt;
        }
        const std::size_t index = next_++;
        if (!is_needed(segment, false)) continue;
        budget_ -= budget_ == UINT64_MAX ? 0 : segment.pages * kBitPage;
        const bool read = segment.data_pages > 0 && is_needed(segment, true);
        return Piece{
            .kind = read ? Piece::Kind::File : Piece::Kind::Zero,
            .fd = fd_,
            .offset = table_.header.data_offset + segment.data_page * kBitPage,
            .length = segment.data_pages * kBitPage,
            .first = index,
            .count = segment.pages,
        };
    }
    return std::nullopt;
}

std::optional<SourceError> WorkingSetFeed::check(
    const Piece& piece, std::span<const std::byte> bytes,
    std::optional<image::MapReader::ListPlace>& /*missing*/
) {
    if (!checked_) return std::nullopt;
    const std::uint64_t index = segments_[piece.first].data_page / table_.header.segment_pages;
    if (image::hash_bytes(bytes) == table_.segments[index]) return std::nullopt;
    return SourceError{protocol::FailureReason::Checksum, EBADMSG};
}

// `cursor` counts the segment's pages, zeros and data, in the order of its runs.
Feed::Step WorkingSetFeed::install(
    const Piece& piece, const std::byte* bytes, std::uint64_t& cursor, std::uint64_t pages
) {
    const Segment& segment = segments_[piece.first];
    Step step;
    std::uint64_t before = 0; // pages of the runs gone by
    std::uint64_t data = 0;   // of those, data pages
    for (std::size_t i = segment.first_run; i < segment.end_run; ++i) {
        const WorkingSetRun& run = table_.runs[i];
        const std::uint64_t into = std::min<std::uint64_t>(cursor - before, run.pages());
        if (into < run.pages() && step.result.pages < pages) {
            const BitRange range{run.first_page + into, run.pages() - into};
            const bool skip = !run.is_zero() && piece.kind == Piece::Kind::Zero;
            const std::byte* from = run.is_zero() ? nullptr : bytes + (data + into) * kBitPage;
            const RunResult part = skip ? RunResult{.pages = range.count}
                                        : installer_.fill(Cause::Replay, range, from);
            cursor += part.pages;
            step.result.pages += part.pages;
            step.result.outcome = part.outcome;
            step.result.errno_value = part.errno_value;
            if (part.outcome != FillOutcome::Done) return step;
        }
        before += run.pages();
        data += run.is_zero() ? 0 : run.pages();
        if (cursor < before) break;
    }
    step.finished = cursor >= segment.pages;
    return step;
}

} // namespace thaw::worker
