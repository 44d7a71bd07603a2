// SPDX-License-Identifier: MIT
#pragma once

// The memory file from its beginning: all of it (Complete), or as much as a budget allows, data
// only, for an image without a working set.

#include "feed.hpp"

namespace thaw::worker {

class MemoryFeed final : public Feed {
public:
    struct Parts { // all outlive it
        protocol::SessionMemory& memory;
        const RegionMap& regions;
        PageSource& source;
        RunInstaller& installer;
    };
    // `budget` in bytes to be read. Populate brings zeros as well, Replay does not.
    MemoryFeed(const Parts& parts, Cause cause, std::uint64_t budget)
        : parts_(parts), cause_(cause), budget_(budget) {}

    std::optional<Piece> next() override;
    std::optional<SourceError> check(
        const Piece& piece, std::span<const std::byte> bytes,
        std::optional<image::MapReader::ListPlace>& missing
    ) override;
    Step install(
        const Piece& piece, const std::byte* bytes, std::uint64_t& cursor, std::uint64_t pages
    ) override;

    // Bytes of the memory file behind the last piece.
    std::uint64_t position() const { return page_ * protocol::kBitPage; }
    bool is_over_budget() const { return over_budget_; }
    // From the beginning once more: what was out of reach the first time may not be now.
    void rewind() { page_ = 0; }

private:
    bool is_at_hand(std::uint64_t page, std::uint64_t count);
    std::optional<Piece> piece_at(std::uint64_t page, std::uint64_t run);
    std::optional<Piece> huge_piece_at(std::uint64_t page, std::uint64_t pages);
    Piece read_piece(std::uint64_t page, std::uint64_t pages);

    Parts parts_;
    Cause cause_;
    std::uint64_t budget_;
    std::uint64_t page_ = 0;      // 4 KiB page of the memory file
    std::uint64_t hot_first_ = 0; // pages that were seen to be in the page cache
    std::uint64_t hot_end_ = 0;
    bool over_budget_ = false;
};

} // namespace thaw::worker
