// SPDX-License-Identifier: MIT
#pragma once

// Firecracker's region list: the JSON array a VMM sends with its userfaultfd. Pure functions; the
// text comes from a VMM and is hostile.
//
// Generations: base_host_virt_addr, size and offset since Firecracker 1.1; page_size_kib (bytes,
// despite its name) since 1.7; page_size (bytes) since 1.12. Unknown members are accepted.

#include "core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace thaw::pagerd {

struct GuestRegion {
    std::uint64_t address = 0;   // in the VMM's address space
    std::uint64_t size = 0;      // bytes
    std::uint64_t offset = 0;    // in the image's memory file
    std::uint64_t page_size = 0; // 4096 or 2097152
    bool operator==(const GuestRegion&) const = default;
};

// Largest message that is read; Firecracker needs about 150 bytes per region.
inline constexpr std::size_t kMaxRegionText = 1 << 20;

// Finds the end of the array: the stream has no length prefix and may deliver it in parts.
class ArrayScanner {
public:
    enum class State { Incomplete, Complete, Invalid };
    // Feeds the next part. Once Complete, anything but white space after the array is Invalid.
    State feed(std::string_view part);
    State state() const { return state_; }

private:
    State state_ = State::Incomplete;
    unsigned depth_ = 0;
    bool in_string_ = false;
    bool escaped_ = false;
};

// org.thaw.pager1.Error.HandshakeInvalid when the text is not a region list.
Result<std::vector<GuestRegion>> parse_region_list(std::string_view json);

struct RegionLimits {
    std::uint64_t memory_size = 0; // what the regions must add up to
    std::uint64_t page_size = 0;   // required page size, 0: 4096 or 2097152
    std::size_t max_regions = 0;
};

// The regions tile the image's memory exactly, do not overlap in the address space, and are aligned
// to one common page size. RegionsInvalid; ImageMismatch when they fit together but not the image.
Result<> validate_regions(const std::vector<GuestRegion>& regions, const RegionLimits& limits);

} // namespace thaw::pagerd
