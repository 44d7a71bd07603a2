// SPDX-License-Identifier: MIT
#include "space.hpp"

#include <algorithm>

namespace thaw::restore {

namespace {

using diskguard1::Writers;

bool writes_to(const Writer& writer, const std::string& volume) {
    return std::ranges::find(writer.volumes, volume) != writer.volumes.end();
}

} // namespace

std::vector<std::string>
written_paths(const image::Manifest& manifest, std::string_view overlay_drive) {
    std::vector<std::string> written;
    for (const auto& drive : manifest.drives)
        if (drive.id != overlay_drive && !drive.read_only && drive.path.starts_with('/') &&
            !drive.path.starts_with("/dev/"))
            written.push_back(drive.path);
    return written;
}

WriterPlan
plan_writers(const std::vector<guard::VolumeView>& volumes, const std::vector<Writer>& writers) {
    WriterPlan plan;
    for (const auto& volume : volumes) {
        // A guardian that has not looked yet does not know what it wants.
        if (volume.level == diskguard1::Level::Unknown) continue;
        const bool stop = volume.writers == Writers::Pause;
        bool settled = true;
        bool running = false;
        std::uint32_t count = 0;
        for (const auto& writer : writers) {
            const bool ours = writer.paused_for == volume.id;
            if (stop && !ours && writer.paused_for.empty() && writes_to(writer, volume.id)) {
                if (writer.busy)
                    settled = false;
                else if (writer.state == InstanceState::Running)
                    plan.pause.push_back({writer.name, volume.id});
                settled = settled && writer.state != InstanceState::Running;
            } else if (stop && ours) {
                settled = settled && !writer.busy;
                running = running || writer.state == InstanceState::Running;
                count += writer.state == InstanceState::Paused ? 1 : 0;
            } else if (ours && writer.busy) {
                settled = false;
            } else if (ours && writer.state == InstanceState::Paused) {
                plan.resume.push_back({writer.name, volume.id});
                settled = false;
            } else if (ours) {
                plan.forget.push_back(writer.name);
            }
        }
        // One that could not be paused, or was resumed by hand, writes on.
        if (settled) plan.settled[volume.id] = {stop && !running, count};
    }
    return plan;
}

} // namespace thaw::restore
