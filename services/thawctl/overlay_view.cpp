// SPDX-License-Identifier: MIT
#include "overlay_view.hpp"

#include "core/text.hpp"
#include "protocol/rootfs_client.hpp"

#include <fmt/format.h>

namespace thaw::ctl {

std::optional<std::vector<protocol::RootfsStatus>> ask_overlays() {
    constexpr Microseconds kPatience = kUsecPerSec;
    std::vector<protocol::RootfsStatus> overlays;
    const auto names = protocol::list_rootfs();
    if (!names) return std::nullopt;
    for (const auto& name : *names) {
        auto client =
            protocol::RootfsClient::connect(protocol::rootfs_control_socket(name), kPatience);
        if (!client && client.error().code() == EACCES) return std::nullopt;
        if (!client) continue;
        if (auto status = client->status()) overlays.push_back(std::move(*status));
    }
    return overlays;
}

std::string overlays_line(const std::vector<protocol::RootfsStatus>& overlays) {
    if (overlays.empty()) return {};
    protocol::RootfsStatus sum;
    for (const auto& overlay : overlays) {
        sum.dirty_bytes += overlay.dirty_bytes;
        sum.memory_used += overlay.memory_used;
        sum.disk_used += overlay.disk_used;
    }
    return fmt::format(
        "Root disks: {}, {} changed; {} in memory, {} on disk.\n", overlays.size(),
        format_size(sum.dirty_bytes), format_size(sum.memory_used), format_size(sum.disk_used)
    );
}

} // namespace thaw::ctl
