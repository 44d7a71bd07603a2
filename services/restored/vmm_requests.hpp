// SPDX-License-Identifier: MIT
#pragma once

// Bodies of Firecracker's API, and what its answers mean. Pure.

#include "failure.hpp"
#include "job_state.hpp"
#include "vmm_api.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace thaw::restore {

// Pairs of iface_id and host_dev_name.
using NetworkOverrides = std::vector<std::pair<std::string, std::string>>;

struct LoadRequest {
    std::string state_path;
    Backend backend = Backend::Uffd;
    std::string backend_path; // the pager's socket, or the memory file
    NetworkOverrides network_overrides;
};
// PUT /snapshot/load. The VM stays paused: resuming is a call of its own, so that a refusal of one
// is told from that of the other.
std::string load_body(const LoadRequest& request);
// PATCH /vm.
enum class VmState { Paused, Resumed };
std::string vm_state_body(VmState state);

// The VMM's own words: fault_message of its answer, or the start of the body.
std::string refusal_text(const HttpReply& reply);
// What a request that failed or was refused means; nothing for 2xx. `refused` names a refusal,
// `expired` a limit that ran out.
std::optional<Failure> judge_reply(
    const Result<HttpReply>& reply, std::string_view what, std::string_view refused,
    std::string_view expired
);
// Whether the answer to GET / says that the guest runs.
bool says_running(const HttpReply& reply);

} // namespace thaw::restore
