// SPDX-License-Identifier: MIT
#pragma once

// A working-set file, segment by segment. Segments that bring nothing new are not read.

#include "feed.hpp"
#include "image/working_set.hpp"

#include <vector>

namespace thaw::worker {

class WorkingSetFeed final : public Feed {
public:
    // `budget` in bytes of guest memory; 0: none. `checked`: false skips the segments' checksums.
    WorkingSetFeed(
        int fd, image::WorkingSetTable table, const protocol::SessionMemory& memory,
        RunInstaller& installer, std::uint64_t budget, bool checked
    );

    std::optional<Piece> next() override;
    std::optional<SourceError> check(
        const Piece& piece, std::span<const std::byte> bytes,
        std::optional<image::MapReader::ListPlace>& missing
    ) override;
    Step install(
        const Piece& piece, const std::byte* bytes, std::uint64_t& cursor, std::uint64_t pages
    ) override;

    bool is_over_budget() const { return over_budget_; }
    std::uint64_t total_bytes() const;

private:
    struct Segment {
        std::size_t first_run = 0; // zero runs before the data's are its own
        std::size_t end_run = 0;
        std::uint64_t data_page = 0; // of the file's data
        std::uint64_t data_pages = 0;
        std::uint64_t pages = 0;
    };
    void divide();
    bool is_needed(const Segment& segment, bool data_only) const;

    int fd_;
    image::WorkingSetTable table_;
    const protocol::SessionMemory& memory_;
    RunInstaller& installer_;
    std::vector<Segment> segments_;
    std::uint64_t budget_; // UINT64_MAX: none
    bool checked_;
    bool over_budget_ = false;
    std::size_t next_ = 0;
};

} // namespace thaw::worker
