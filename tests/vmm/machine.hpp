// SPDX-License-Identifier: MIT
#pragma once

#include "devices.hpp"
#include "guest.hpp"
#include "profile.hpp"
#include "snapshot_file.hpp"

#include <nlohmann/json.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::standin {

/// PUT /snapshot/load after its syntax was checked.
struct LoadRequest {
    std::string snapshot_path;
    bool uffd = false;
    std::string backend_path;
    bool resume_vm = false;
    bool track_dirty_pages = false;
    std::vector<SnapshotState::Interface> network_overrides;
    std::optional<std::string> vsock_override;
};

struct VerifyRequest {
    std::string memory_path; ///< empty: `memory` beside the state file
    bool from_recipe = false;
    std::uint64_t timeout_ms = 0; ///< 0: wait as long as the pager does
    std::size_t wrong_max = 16;
};

/// The VM. Used by the API thread only.
class Machine {
public:
    explicit Machine(const Profile& profile) : profile_(profile) {}

    bool logs_writes() const { return track_dirty_pages_; }
    bool loaded() const { return loaded_; }
    /// Once this is true the process has to end: a failed load leaves nothing usable.
    bool broken() const { return broken_; }
    /// "Not started", "Running" or "Paused".
    const char* state_name() const;
    nlohmann::json machine_config() const;
    nlohmann::json vm_config() const;

    Result<void> load(const LoadRequest& request);
    Result<void> pause();
    Result<void> resume();
    /// `resident_only`: pages that are not resident stay holes (a Diff without a log of writes).
    Result<void> create_snapshot(
        const std::string& state_path, const std::string& memory_path, bool resident_only
    );

    /// Applies keys over the present guest parameters and starts the guest anew; `stop` ends it.
    Result<void> set_guest(const nlohmann::json& body);
    /// Touches every page of RAM and compares it. A running guest is paused meanwhile.
    Result<nlohmann::json> verify(const VerifyRequest& request);
    /// One digest of all RAM, and of single pages when asked.
    Result<nlohmann::json> hash(std::uint64_t first, std::uint64_t count);
    nlohmann::json report();

private:
    Result<void> load_steps(const LoadRequest& request);
    Result<void> apply_overrides(const LoadRequest& request);
    Result<void> map_memory(const LoadRequest& request);
    Result<void> map_uffd(const LoadRequest& request);
    void touch_for_devices();
    Result<void> make_guest();
    Result<std::shared_ptr<Reference>> reference(const VerifyRequest& request) const;

    const Profile& profile_;
    SnapshotState state_;
    std::string snapshot_directory_;
    bool loaded_ = false, broken_ = false, uffd_ = false, track_dirty_pages_ = false;
    GuestMemory memory_;
    std::unique_ptr<PageLedger> ledger_;
    Devices devices_;
    std::unique_ptr<Guest> guest_;
    Fd userfault_; ///< the VMM's own copy, kept for the life of the VM
    Fd handshake_; ///< kept open from 1.12 on
    std::uint64_t load_ns_ = 0, memory_ns_ = 0, devices_ns_ = 0, resume_ns_ = 0;
    std::uint64_t resumed_at_ = 0;
};

} // namespace thaw::standin
