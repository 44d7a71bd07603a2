// SPDX-License-Identifier: MIT
#pragma once

// The bytes of the journal, in the host's order (it never leaves the host).

#include "overlay/block_map.hpp"

#include <optional>

namespace thaw::rootfs::format {

inline constexpr std::uint64_t kHeaderMagic = 0x3130'4a46'5452'4854; // "THRTFJ01"
inline constexpr std::uint64_t kRecordMagic = 0x4345'524a'5452'4854; // "THRTJREC"
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::uint64_t kUnit = kBlockSize; // headers and records begin and end at it

struct Header { // at byte 0, padded with zeros to kUnit
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t block_size;
    std::uint64_t generation; // of the two files the higher one counts
    std::uint64_t disk_size;
    std::uint64_t base_tag;
    std::uint64_t records;  // that were there when the header was written
    std::uint64_t checksum; // XXH3-64 of all before
};
static_assert(sizeof(Header) == 56);

struct RecordHead { // followed by `count` changes, padded with zeros to kUnit
    std::uint64_t magic;
    std::uint64_t generation;
    std::uint64_t sequence; // from 0, no gaps
    std::uint64_t count;
    std::uint64_t checksum; // XXH3-64 of all before and of the changes
};
static_assert(sizeof(RecordHead) == 40);

struct Change {
    std::uint64_t block;
    std::uint32_t count;
    std::uint32_t location; // pack()
};
static_assert(sizeof(Change) == 16);

// Of one record; more changes make more records.
inline constexpr std::uint64_t kMaxChanges = 65536;
constexpr std::uint64_t record_size(std::uint64_t changes) {
    return blocks_of(sizeof(RecordHead) + changes * sizeof(Change)) * kUnit;
}

void seal(Header& header);
bool intact(const Header& header);
// A whole record, kUnit-padded.
std::vector<std::byte>
encode_record(std::uint64_t generation, std::uint64_t sequence, std::span<const MapRun> changes);
// The record that begins `data`; nothing when it is torn, damaged or of another log.
struct Record {
    std::uint64_t sequence = 0;
    std::uint64_t size = 0;
    std::vector<MapRun> changes;
};
std::optional<Record> decode_record(std::span<const std::byte> data, std::uint64_t generation);

} // namespace thaw::rootfs::format
