// SPDX-License-Identifier: MIT
#pragma once

// Which file systems a restore and its VM write to, and what becomes of VMs that write to a full
// one. Pure decisions; writer_pause.hpp and the restore's steps act on them.

#include "api/diskguard1.hpp"
#include "guard/guard_client.hpp"
#include "image/manifest.hpp"
#include "job_state.hpp"

#include <map>
#include <string>
#include <vector>

namespace thaw::restore {

// Files outside the VM's own directory that the VM writes: drives that are not read-only. Block
// devices are on no file system; nor is the drive that an overlay takes the place of.
std::vector<std::string>
written_paths(const image::Manifest& manifest, std::string_view overlay_drive = "");

// A VM as far as the pause of writers goes.
struct Writer {
    std::string name;
    InstanceState state = InstanceState::Running;
    bool busy = false;      // a job or a change of its state is at work
    std::string paused_for; // id of the volume whose being full paused it; empty: not by us
    std::vector<std::string> volumes; // ids of the volumes it writes to
};

struct WriterPlan {
    struct Change {
        std::string name;
        std::string volume; // id
        bool operator==(const Change&) const = default;
    };
    std::vector<Change> pause;
    std::vector<Change> resume;
    std::vector<std::string> forget; // its volume does not want it paused, and it is not
    // Volumes whose writers are all dealt with: id → whether they are stopped, and how many.
    struct Settled {
        bool stopped = false;
        std::uint32_t count = 0;
        bool operator==(const Settled&) const = default;
    };
    std::map<std::string, Settled> settled;
};
// A VM that somebody resumed by hand while its volume is still full is left running. One that is
// busy is looked at again when it is not; until then its volume is not settled.
WriterPlan
plan_writers(const std::vector<guard::VolumeView>& volumes, const std::vector<Writer>& writers);

} // namespace thaw::restore
