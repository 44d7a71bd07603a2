// SPDX-License-Identifier: MIT
#pragma once

// access.log: which pages a guest touched after a restore, in the order of first touch. Made by a
// recording session; a working-set file (working_set.hpp) is packed from it.
//
// Layout, little-endian: AccessLogHeader (64 bytes), entry_count page indices of 4 bytes. A page is
// named by the index of its (first) 4 KiB in the memory file, whatever the page size. The checksum
// is the XXH3-64 of header (with checksum 0) and entries.

#include "core/error.hpp"
#include "image/manifest.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace thaw::image {

inline constexpr std::uint32_t kAccessLogVersion = 1;
inline constexpr std::array<char, 8> kAccessLogMagic{'T', 'H', 'A', 'W', 'L', 'O', 'G', '\n'};
inline constexpr std::uint32_t kLogSettled = 1U << 0;

struct AccessLogHeader {
    std::array<char, 8> magic = kAccessLogMagic;
    std::uint32_t version = kAccessLogVersion;
    std::uint32_t page_size = 4096; // of the guest's mapping: 4096 or 2 MiB
    ImageId id{};
    std::uint64_t page_count = 0; // 4 KiB pages of the image's memory
    std::uint64_t entry_count = 0;
    std::uint32_t flags = 0;
    std::uint32_t recordings = 1; // that it was merged from
    std::uint64_t checksum = 0;
};
static_assert(sizeof(AccessLogHeader) == 64);

struct AccessLog {
    ImageId id{};
    std::uint32_t page_size = 4096;
    std::uint64_t page_count = 0; // 4 KiB pages of the image's memory
    bool settled = false;         // the fault rate had converged when the recording ended
    std::uint32_t recordings = 1;
    std::vector<std::uint32_t> pages; // no page twice
    bool operator==(const AccessLog&) const = default;
};

std::vector<std::byte> encode_access_log(const AccessLog& log);

// Reads with pread(). EBADMSG for damage, EPROTONOSUPPORT for an unknown version, ESTALE when it
// belongs to another image, ERANGE when it names pages beyond `page_count` (4 KiB pages).
Result<AccessLog> load_access_log(int fd, const ImageId& expected, std::uint64_t page_count);

// The pages seen in all of `logs`, ordered by the mean of their places; settled when all are.
// EINVAL when they are not of one image or there is none.
Result<AccessLog> merge_access_logs(std::span<const AccessLog> logs);

} // namespace thaw::image
