// SPDX-License-Identifier: MIT
#pragma once

// What the disk guardian says, for the verbs df, reserve and doctor; and room for an import.

#include "client.hpp"
#include "core/fd.hpp"

#include <string>
#include <vector>

namespace thaw::ctl {

struct GuardView {
    std::vector<Properties> volumes; // "Object" beside what the interface has
    nlohmann::json leases;           // array of objects
};
// Starts a guardian that is not there, where the bus may.
Result<GuardView> read_guard(Client& client);
// Whether somebody owns the name now; starts nobody.
bool has_guardian(Client& client);

// A promise of space for work of this program, or the refusal (ENOSPC, with numbers and, where it
// helps, the hint). Without a guardian: free space is looked at, which is told on stderr.
Result<Fd> admit_work(
    const std::string& path, std::uint64_t bytes, const std::string& why,
    const OutputOptions& options
);

Color color_of_level(std::string_view level);
Color color_of_reserve(std::string_view state);

} // namespace thaw::ctl
