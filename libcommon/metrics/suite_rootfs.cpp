// SPDX-License-Identifier: MIT
#include "metrics/suite_rootfs.hpp"

#include <array>

namespace thaw::metrics {

namespace {

using protocol::RootfsStatus;

struct Mapping {
    std::uint64_t RootfsStatus::* member;
    const char* family;
    Type type;
    const char* unit;
    const char* help;
};

constexpr std::array kOverlay{
    Mapping{
        &RootfsStatus::dirty_bytes, "thaw_rootfs_dirty_bytes", Type::Gauge, "bytes",
        "Changed blocks of the disk, zeros not counted."
    },
    Mapping{
        &RootfsStatus::zero_blocks, "thaw_rootfs_zero_blocks", Type::Gauge, "",
        "Changed blocks that are zero."
    },
    Mapping{
        &RootfsStatus::memory_used, "thaw_rootfs_memory_bytes", Type::Gauge, "bytes",
        "Memory that the overlay takes."
    },
    Mapping{
        &RootfsStatus::memory_budget, "thaw_rootfs_memory_max_bytes", Type::Gauge, "bytes",
        "Its budget of memory."
    },
    Mapping{
        &RootfsStatus::disk_used, "thaw_rootfs_disk_bytes", Type::Gauge, "bytes",
        "Space on disk that the overlay takes."
    },
    Mapping{
        &RootfsStatus::read_bytes, "thaw_rootfs_read_bytes", Type::Counter, "bytes",
        "Read by the VM."
    },
    Mapping{
        &RootfsStatus::written_bytes, "thaw_rootfs_written_bytes", Type::Counter, "bytes",
        "Written by the VM."
    },
    Mapping{
        &RootfsStatus::spilled_bytes, "thaw_rootfs_spilled_bytes", Type::Counter, "bytes",
        "Written to disk by the overlay."
    },
    Mapping{
        &RootfsStatus::failed_reads, "thaw_rootfs_failed_reads", Type::Counter, "",
        "Reads that the VM saw fail."
    },
    Mapping{
        &RootfsStatus::failed_writes, "thaw_rootfs_failed_writes", Type::Counter, "",
        "Writes that the VM saw fail."
    },
};

} // namespace

void add_overlays(std::vector<Family>& families, std::span<const RootfsStatus> overlays) {
    Family count("thaw_rootfs_overlays", Type::Gauge, "", "Running overlays of root file systems.");
    count.add({}, static_cast<std::uint64_t>(overlays.size()));
    families.push_back(std::move(count));
    for (const auto& mapping : kOverlay) {
        Family family(mapping.family, mapping.type, mapping.unit, mapping.help);
        for (const auto& overlay : overlays)
            family.add({{"vm", overlay.name}}, overlay.*mapping.member);
        families.push_back(std::move(family));
    }
}

} // namespace thaw::metrics
