// SPDX-License-Identifier: MIT
#pragma once

// working-set: the pages of an access.log, packed so that one sequential read brings them all, also
// past the page cache (everything is 4 KiB aligned for O_DIRECT).
//
// Layout, little-endian: WorkingSetHeader (128 bytes), run_count WorkingSetRun, one XXH3-64 per
// segment of data; from data_offset on the data pages. The pages stand in order of first touch, in
// segments of segment_pages data pages; inside a segment they are sorted, so that neighbours make
// one run. No run crosses a segment. Pages that are zero in the image are named in runs with
// kZeroRun and bring no data. The header's checksum is the XXH3-64 of header (with checksum 0),
// runs and segment checksums.

#include "core/error.hpp"
#include "image/access_log.hpp"
#include "image/manifest.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace thaw::image {

inline constexpr std::uint32_t kWorkingSetVersion = 1;
inline constexpr std::array<char, 8> kWorkingSetMagic{'T', 'H', 'A', 'W', 'W', 'S', 'E', 'T'};
inline constexpr std::uint32_t kSegmentPages = 64; // 256 KiB: one step of the replay
inline constexpr std::uint32_t kZeroRun = 1U << 31;
inline constexpr std::uint64_t kWorkingSetBlock = 4096; // what O_DIRECT wants everything aligned to

struct WorkingSetHeader {
    std::array<char, 8> magic = kWorkingSetMagic;
    std::uint32_t version = kWorkingSetVersion;
    std::uint32_t page_size = 4096; // of the guest's mapping: 4096 or 2 MiB
    ImageId id{};
    std::uint64_t page_count = 0; // 4 KiB pages of the image's memory
    std::uint64_t run_count = 0;
    std::uint64_t data_pages = 0;                // 4 KiB pages that follow data_offset
    std::uint64_t zero_pages = 0;                // 4 KiB pages in zero runs
    std::uint64_t data_offset = 0;               // in this file, multiple of 4 KiB
    std::uint32_t segment_pages = kSegmentPages; // 512 with 2 MiB pages
    std::uint32_t flags = 0;                     // kLogSettled
    std::uint64_t map_checksum = 0;              // of the memory.map its pages were checked against
    std::array<std::uint64_t, 4> reserved{};
    std::uint64_t checksum = 0;
};
static_assert(sizeof(WorkingSetHeader) == 128);

struct WorkingSetRun {
    std::uint32_t first_page = 0;
    std::uint32_t count = 0; // of pages, with kZeroRun in the highest bit

    std::uint32_t pages() const { return count & ~kZeroRun; }
    bool is_zero() const { return (count & kZeroRun) != 0; }
    bool operator==(const WorkingSetRun&) const = default;
};
static_assert(sizeof(WorkingSetRun) == 8);

// All but the data, validated.
struct WorkingSetTable {
    WorkingSetHeader header;
    std::vector<WorkingSetRun> runs;
    std::vector<std::uint64_t> segments; // checksums
};

// `fd` may be O_DIRECT. EBADMSG for damage, EPROTONOSUPPORT for an unknown version, ESTALE when it
// belongs to another image, ERANGE when it names pages beyond `page_count` (4 KiB pages), EIO and
// others as read() has them.
Result<WorkingSetTable> load_working_set(int fd, const ImageId& expected, std::uint64_t page_count);

// The same for those who read the file by themselves, so as not to wait for a disk.
struct WorkingSetOf {
    ImageId id{};
    std::uint64_t page_count = 0; // 4 KiB pages of the memory
};
// How many bytes from the file's beginning parse_working_set() wants, by its first 4 KiB.
Result<std::uint64_t> working_set_table_size(
    std::span<const std::byte> first_block, const WorkingSetOf& of, std::uint64_t file_size
);
Result<WorkingSetTable> parse_working_set(
    std::span<const std::byte> bytes, const WorkingSetOf& of, std::uint64_t file_size
);

class MemoryMap;
class MemoryReader;
// Packs the pages of `log` from the memory into the empty file `out` (written from its offset
// 0). Every page is checked against `map`: EBADMSG when one does not match. EINVAL when the log is
// empty or of another image.
Result<>
write_working_set(int out, const AccessLog& log, const MemoryReader& memory, const MemoryMap& map);

// header.checksum of a table.
std::uint64_t working_set_checksum(const WorkingSetTable& table);

} // namespace thaw::image
