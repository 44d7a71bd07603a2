// SPDX-License-Identifier: MIT
#include "protocol/session_memory.hpp"

#include <algorithm>

namespace thaw::protocol {

namespace {

constexpr std::uint64_t kHugePage = 2 << 20;
// Highest user address on any 64-bit machine we know, 57 bits.
constexpr std::uint64_t kAddressLimit = std::uint64_t{1} << 57;

Result<> check_region(const Region& region, std::size_t index, std::uint64_t memory_size) {
    if (region.page_size != kSessionPage && region.page_size != kHugePage)
        return fail(EINVAL, "region {}: page size {} is not known", index, region.page_size);
    if (region.size == 0) return fail(EINVAL, "region {}: empty", index);
    if ((region.base | region.size | region.offset) % region.page_size != 0)
        return fail(EINVAL, "region {}: not aligned to its page size", index);
    if (region.base == 0 || region.base >= kAddressLimit ||
        region.size > kAddressLimit - region.base)
        return fail(ERANGE, "region {}: address out of range", index);
    if (region.offset > memory_size || region.size > memory_size - region.offset)
        return fail(ERANGE, "region {}: beyond the end of the memory file", index);
    return {};
}

// Sorted by `start`, no two intervals [start, start + size) may meet.
Result<>
check_disjoint(std::vector<Region> regions, std::uint64_t Region::* start, const char* what) {
    std::ranges::sort(regions, {}, start);
    for (std::size_t i = 1; i < regions.size(); ++i)
        if (regions[i - 1].*start + regions[i - 1].size > regions[i].*start)
            return fail(EINVAL, "regions overlap in {}", what);
    return {};
}

} // namespace

Result<> check_regions(std::span<const Region> regions, std::uint64_t memory_size) {
    if (regions.empty()) return fail(EINVAL, "no regions");
    if (regions.size() > kMaxRegions) return fail(EINVAL, "more than {} regions", kMaxRegions);
    for (std::size_t i = 0; i < regions.size(); ++i)
        THAW_CHECK(check_region(regions[i], i, memory_size));
    const std::vector<Region> copy(regions.begin(), regions.end());
    THAW_CHECK(check_disjoint(copy, &Region::base, "memory"));
    return check_disjoint(copy, &Region::offset, "the memory file");
}

std::string_view engine_name(FaultEngineKind kind) {
    switch (kind) {
    case FaultEngineKind::None:
        return "none";
    case FaultEngineKind::Epoll:
        return "epoll";
    case FaultEngineKind::IoUring:
        return "io_uring";
    }
    return "unknown";
}

std::string_view failure_reason_name(std::uint32_t reason) {
    static constexpr std::array<std::string_view, kFailureReasonMax + 1> kNames{
        "none",      "source-truncated", "source-read", "checksum",        "map-damaged",
        "uffd-read", "install",          "lock-held",   "session-invalid", "resources",
    };
    return reason < kNames.size() ? kNames[reason] : "unknown";
}

std::string_view replay_state_name(std::uint32_t state) {
    static constexpr std::array<std::string_view, 6> kNames{
        "none", "running", "paused", "done", "stopped", "refused",
    };
    return state < kNames.size() ? kNames[state] : "unknown";
}

std::string_view track_state_name(std::uint32_t state) {
    static constexpr std::array<std::string_view, 4> kNames{"off", "armed", "failed", "arming"};
    return state < kNames.size() ? kNames[state] : "unknown";
}

std::string_view populate_state_name(std::uint32_t state) {
    static constexpr std::array<std::string_view, 4> kNames{"none", "running", "done", "failed"};
    return state < kNames.size() ? kNames[state] : "unknown";
}

std::string_view replay_io_name(std::uint32_t io) {
    const bool registered = (io & kReplayRegistered) != 0;
    if ((io & kReplayDirect) != 0) return registered ? "direct-registered" : "direct";
    return registered ? "buffered-registered" : "buffered";
}

std::string_view replay_reason_name(std::uint32_t reason) {
    static constexpr std::array<std::string_view, kReplayReasonMax + 1> kNames{
        "none",     "off",     "pressure",      "quiesced",     "budget",          "source",
        "checksum", "damaged", "foreign-image", "out-of-range", "unknown-version",
    };
    return reason < kNames.size() ? kNames[reason] : "unknown";
}

} // namespace thaw::protocol
