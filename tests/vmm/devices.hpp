// SPDX-License-Identifier: MIT
#pragma once

#include "snapshot_file.hpp"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace thaw::standin {

/// The devices a snapshot names, opened as a VMM opens them when it restores: drives by path, the
/// vsock by binding its UNIX socket. Network devices are only recorded, no tap is opened.
class Devices {
public:
    /// Paths are relative to the working directory. Overrides were applied to `state` before.
    Result<void> restore(const SnapshotState& state);
    nlohmann::json report() const;

private:
    struct OpenDrive {
        std::string drive_id;
        std::string path;
        Fd file;
    };
    std::vector<OpenDrive> drives_;
    Fd vsock_;
    std::string vsock_path_;
    nlohmann::json interfaces_ = nlohmann::json::array();
};

} // namespace thaw::standin
