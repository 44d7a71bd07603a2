// SPDX-License-Identifier: MIT
#pragma once

// The truth about a reserve, as measured: never what was configured, never what a file's length
// says.

#include "core/enum_table.hpp"
#include "reserve/plan.hpp"
#include "reserve/space.hpp"
#include "reserve/volume.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thaw::reserve {

enum class State {
    Armed,    // every planned chunk is there and worth its bytes
    Degraded, // some are missing, damaged or worth nothing
    Placebo,  // allocated, but at least half of it would free nothing
    Released, // nothing is held
    Deferred, // nothing has ever been held: there was no room for the first chunk
    Failed,   // it cannot be measured, or nothing is held because laying it failed
};
inline constexpr EnumTable kStateNames{std::array{
    std::pair{State::Armed, std::string_view("armed")},
    std::pair{State::Degraded, std::string_view("degraded")},
    std::pair{State::Placebo, std::string_view("placebo")},
    std::pair{State::Released, std::string_view("released")},
    std::pair{State::Deferred, std::string_view("deferred")},
    std::pair{State::Failed, std::string_view("failed")},
}};

enum class ChunkHealth {
    Healthy,
    Absent,     // released; also an entry of length 0
    CutShort,   // shorter than planned, above 0
    TooLong,    // longer than planned (the plan has shrunk)
    Sparse,     // fewer blocks than its length
    HardLinked, // another name keeps it alive
    Symlink,
    NotRegular, // directory, device, FIFO, socket
    Exposed,    // wrong owner or mode
    Shared,     // its extents also belong to a snapshot or reflink copy
    Compressed,
    Unwritten, // allocated only, on a thin backing
};
inline constexpr EnumTable kChunkHealthNames{std::array{
    std::pair{ChunkHealth::Healthy, std::string_view("healthy")},
    std::pair{ChunkHealth::Absent, std::string_view("absent")},
    std::pair{ChunkHealth::CutShort, std::string_view("cut-short")},
    std::pair{ChunkHealth::TooLong, std::string_view("too-long")},
    std::pair{ChunkHealth::Sparse, std::string_view("sparse")},
    std::pair{ChunkHealth::HardLinked, std::string_view("hard-linked")},
    std::pair{ChunkHealth::Symlink, std::string_view("symlink")},
    std::pair{ChunkHealth::NotRegular, std::string_view("not-regular")},
    std::pair{ChunkHealth::Exposed, std::string_view("exposed")},
    std::pair{ChunkHealth::Shared, std::string_view("shared")},
    std::pair{ChunkHealth::Compressed, std::string_view("compressed")},
    std::pair{ChunkHealth::Unwritten, std::string_view("unwritten")},
}};

struct Chunk {
    unsigned index = 0;
    ChunkHealth health = ChunkHealth::Absent;
    std::uint64_t allocated = 0;  // st_blocks
    std::uint64_t releasable = 0; // what truncating it would free
    bool operator==(const Chunk&) const = default;
};

struct Measurement {
    Space space;
    bool text = false; // the text file is there: a reserve has been laid, or was about to be
    std::uint64_t planned = 0;
    std::uint64_t allocated = 0;
    std::uint64_t releasable = 0;
    std::uint64_t leftovers = 0; // of it in files that a kill left half laid
    std::uint64_t missing = 0;   // planned bytes of absent chunks: what re-arming would lay
    unsigned missing_chunks = 0;
    bool holds() const;        // any chunk at all
    std::vector<Chunk> chunks; // planned ones first, then surplus ones of an earlier, larger plan
};

// Blocks. A reserve directory that does not exist is a Measurement without text and chunks; ESTALE
// when the volume is no longer mounted where it was found; EPERM when the directory is not ours.
// Without root, what is shared cannot be seen (the chunks cannot be opened).
Result<Measurement> measure(const Volume& volume, const Plan& plan);

// The state's one definition. `deferred`: the re-arm rule found no room; `failed`: the last attempt
// to lay or heal a chunk ended with an error other than "no room".
State judge(const Measurement& measured, bool deferred, bool failed);

// Releasable bytes on the file system of `path`, without a plan: for the hint after ENOSPC. 0 when
// there is no reserve, or nothing in it. Allocates little, writes nothing.
Result<std::uint64_t> releasable_at(const std::string& path);

} // namespace thaw::reserve
