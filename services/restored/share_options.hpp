// SPDX-License-Identifier: MIT
#pragma once

// The shares that a restore asks for: a(ssa{sv}) of tag, source and options of AddShare. What the
// options mean, the supervisor knows; here only their types count, so that they can be handed on.

#include "bus/message.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace thaw::restore {

using ShareValue =
    std::variant<bool, std::uint32_t, std::uint64_t, std::string, std::vector<std::string>>;

struct ShareRequest {
    std::string tag;
    std::string source;
    std::vector<std::pair<std::string, ShareValue>> options;
};

// The variant at the cursor. InvalidArgs for tags that come twice, for the options Unit and
// Reconnectable, which are not the caller's to set, and for values of other types.
Result<std::vector<ShareRequest>> read_share_requests(BusMessage& message);

// name, tag, source, options and flags of AddShare for a VM with this unit.
Result<> append_share_request(
    BusMessage& message, const std::string& vm, const std::string& unit, const ShareRequest& request
);

} // namespace thaw::restore
