// SPDX-License-Identifier: MIT
#pragma once

// Where pages ahead of the guest come from, piece by piece; BulkMover (bulk_mover.hpp) reads and
// installs them.

#include "core/error.hpp"
#include "page_source.hpp"
#include "run_installer.hpp"

#include <cstdint>
#include <optional>
#include <span>

namespace thaw::worker {

struct Piece {
    enum class Kind {
        File,   // read `length` bytes at `offset` of `fd` first
        Direct, // installed straight from the source's mapping
        Zero,   // nothing to read
    };
    Kind kind = Kind::File;
    int fd = -1; // -1: of the image's memory, whichever file has it
    std::uint64_t offset = 0;
    std::uint64_t length = 0; // at most BulkMover's buffer
    std::uint64_t first = 0;  // the feed's own: a page, or the number of a segment
    std::uint64_t count = 0;  // the feed's own
};

class Feed {
public:
    virtual ~Feed() = default;
    // The next piece that is worth reading, nullopt: no more.
    virtual std::optional<Piece> next() = 0;
    // Whether the bytes read are good. `missing` as with PageSource::check().
    virtual std::optional<SourceError> check(
        const Piece& piece, std::span<const std::byte> bytes,
        std::optional<image::MapReader::ListPlace>& missing
    ) = 0;
    // Installs on from `cursor`, which it advances, about `pages` 4 KiB pages. RunResult::pages
    // counts those it is through with; `finished` when it was the last of the piece.
    struct Step {
        RunResult result;
        bool finished = false;
    };
    virtual Step install(
        const Piece& piece, const std::byte* bytes, std::uint64_t& cursor, std::uint64_t pages
    ) = 0;
};

} // namespace thaw::worker
