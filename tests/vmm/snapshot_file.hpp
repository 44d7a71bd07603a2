// SPDX-License-Identifier: MIT
#pragma once

#include "page_content.hpp"
#include "result.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thaw::standin {

/// The stand-in's state file: JSON with a magic and a format version. Paths in it are relative to
/// the VMM's working directory, as in real snapshots.
struct SnapshotState {
    struct Drive {
        std::string drive_id;
        std::string path;
        bool read_only = false;
    };
    struct Interface {
        std::string iface_id;
        std::string host_dev_name;
    };

    std::uint64_t memory_mib = 0;
    std::uint64_t page_size = small_page;
    unsigned vcpus = 1;
    bool balloon = true;
    /// How the memory file was made; absent after a snapshot of a VM that had run.
    std::optional<ImageRecipe> recipe;
    std::vector<Drive> drives;
    std::optional<std::string> vsock_path;
    std::vector<Interface> interfaces;
    /// Default parameters of the guest (see GuestParameters); may be null.
    nlohmann::json guest;

    std::uint64_t memory_bytes() const { return memory_mib << 20; }
};

Result<SnapshotState> load_state(const std::string& path);
Result<SnapshotState> parse_state(const std::string& text);
std::string format_state(const SnapshotState& state);
Result<void> save_state(const SnapshotState& state, const std::string& path);

/// Writes DIR/vmstate and DIR/memory. The state must have a recipe.
Result<void> make_snapshot(const SnapshotState& state, const std::string& directory, bool sparse);

} // namespace thaw::standin
