// SPDX-License-Identifier: MIT
#pragma once

// A difference in one file: what of a disk or of a VM's memory is not as in its base. For people:
// thaw-delta(5).
//
// Layout, little-endian:
//   0            DeltaHeader (256 bytes)
//   256          run_count DeltaRun (16 bytes each): sorted by first_block, no block in two
//                check_count XXH3-64 (8 bytes each), one per check_bytes of data
//                notes_bytes of JSON, state_bytes of the VMM's state (memory only)
//   data_offset  data_bytes: the blocks of the data runs, packed in the order of the runs
// data_offset is the first multiple of 4096 after what comes before, so that reflinks work. The
// file ends with the data. header.meta_checksum covers what lies between header and data_offset
// without the padding, header.header_checksum the header with itself as 0.
//
// The last block of a disk whose size is no multiple of the block size is as long as what is left.

#include "core/error.hpp"
#include "protocol/rootfs_control.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace thaw::delta {

inline constexpr std::array<char, 8> kMagic{'T', 'H', 'A', 'W', 'D', 'L', 'T', '\n'};
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::uint64_t kDataAlignment = 4096;
// Of data per checksum, where blocks are not larger.
inline constexpr std::uint32_t kCheckBytes = 256 << 10;
// What a hostile header can make a reader allocate.
inline constexpr std::uint64_t kMaxRuns = std::uint64_t{1} << 26;
inline constexpr std::uint64_t kMaxChecks = std::uint64_t{1} << 27;
inline constexpr std::uint64_t kMaxNotes = 1 << 20;
inline constexpr std::uint64_t kMaxState = 256 << 20;

enum class DeltaKind : std::uint32_t { Disk = 1, Memory = 2 };
enum class RunKind : std::uint32_t { Data = 1, Zero = 2 };
// What `base_id` is.
enum class BaseForm : std::uint32_t {
    None = 0,    // nothing lies below: what is in no run reads as zeros
    Content = 1, // XXH3-128 over all of the base
    Image = 2,   // id of a sealed image
};

using Id = std::array<std::uint8_t, 16>;

struct BaseReference {
    BaseForm form = BaseForm::None;
    std::uint64_t size = 0; // bytes; what the difference has beyond them reads as zeros
    Id id{};
    bool operator==(const BaseReference&) const = default;
};

struct DeltaRun {
    std::uint64_t first_block = 0;
    std::uint32_t count = 0;
    RunKind kind = RunKind::Data;
    bool operator==(const DeltaRun&) const = default;
};
static_assert(sizeof(DeltaRun) == 16);

struct DeltaHeader {
    std::array<char, 8> magic = kMagic;
    std::uint32_t version = kVersion;
    std::uint32_t kind = 0;
    std::uint64_t size = 0; // of the whole disk or memory
    std::uint32_t block_size = 0;
    std::uint32_t check_bytes = 0;
    std::uint32_t base_form = 0;
    std::uint32_t reserved = 0;
    std::uint64_t base_size = 0;
    Id base_id{};
    Id id{};
    std::uint64_t created = 0; // µs since the epoch
    std::uint64_t run_count = 0;
    std::uint64_t data_blocks = 0;
    std::uint64_t zero_blocks = 0;
    std::uint64_t data_offset = 0;
    std::uint64_t data_bytes = 0;
    std::uint64_t check_count = 0;
    std::uint64_t notes_bytes = 0;
    std::uint64_t state_bytes = 0;
    std::array<std::uint64_t, 11> unused{}; // 0
    std::uint64_t meta_checksum = 0;
    std::uint64_t header_checksum = 0;
};
static_assert(sizeof(DeltaHeader) == 256);

// Everything but the data, in private memory.
struct Delta {
    DeltaKind kind = DeltaKind::Disk;
    protocol::DiskGeometry geometry;
    BaseReference base;
    Id id{};
    std::uint64_t created = 0;
    std::uint32_t check_bytes = kCheckBytes;
    std::uint64_t data_offset = 0;
    std::uint64_t data_bytes = 0;
    std::uint64_t data_blocks = 0;
    std::uint64_t zero_blocks = 0;
    std::vector<DeltaRun> runs;
    std::vector<std::uint64_t> checks; // of check_bytes of data each, the last of what is left
    std::string notes;
    std::vector<std::byte> state;

    // Bytes of the disk that the run covers: less than its blocks at the end of a disk.
    std::uint64_t bytes_of(const DeltaRun& run) const;
};

// Counts blocks and bytes of the runs, lays the file out. EBADMSG when runs or geometry are not as
// the format wants them, EOVERFLOW when there are too many.
Result<> lay_out(Delta& delta);
// Header and what follows it up to the data, without the padding. lay_out() was called.
std::vector<std::byte> encode_meta(const Delta& delta);
// Checks and takes over the header alone; lists and texts stay empty. EBADMSG names what is wrong,
// EPROTONOSUPPORT for another version.
Result<DeltaHeader> decode_header(std::span<const std::byte> bytes);
// `meta` is what lies between the header and the data (notes and state included, padding not).
Result<Delta> decode_meta(const DeltaHeader& header, std::span<const std::byte> meta);
// How many bytes that is.
std::uint64_t meta_size(const DeltaHeader& header);

} // namespace thaw::delta
