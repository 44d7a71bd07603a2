// SPDX-License-Identifier: MIT
#pragma once

// The a{sv} of RestoreInstance.

#include "bus/message.hpp"
#include "config.hpp"
#include "policy.hpp"
#include "rootfs_options.hpp"
#include "share_options.hpp"
#include "vmm_requests.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thaw::restore {

struct RestoreOptions {
    Backend backend = Backend::Auto;
    bool prefetch = true;
    std::optional<std::uint64_t> prefetch_rate; // nothing: the pager's defaults
    std::optional<std::uint64_t> replay_budget;
    std::optional<std::uint64_t> sequential_budget;
    Microseconds load_timeout = 0;
    NetworkOverrides network_overrides;
    std::string on_pager_loss; // empty: the pager's default
    std::vector<ShareRequest> shares;
    std::optional<RootfsRequest> rootfs;
    bool track = false;     // what the guest writes, from its first page on
    bool recording = false; // not from the bus: of a record job
};

// Reads the options at the message's cursor. InvalidArgs names an unknown key, a value of another
// type or out of range; SharesUnsupported for shares where no VMM can have any.
Result<RestoreOptions> read_options(BusMessage& message, const Config& config);

} // namespace thaw::restore
