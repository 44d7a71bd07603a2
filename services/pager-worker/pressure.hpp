// SPDX-License-Identifier: MIT
#pragma once

// How much the host waits for memory and I/O (PSI). Opened before the sandbox, read on demand.

#include "core/fd.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thaw::worker {

// "some avg10" in 1/100 % of a PSI file's text; nullopt when it has none. Pure.
std::optional<std::uint32_t> parse_pressure(std::string_view text);

class Pressure {
public:
    // `directory` with the files "memory" and "io"; empty: /proc/pressure, else the root of the
    // control groups. What is not there is never above a limit.
    explicit Pressure(const std::string& directory);

    // A limit of 0 is not looked at.
    bool is_above(std::uint32_t memory_limit, std::uint32_t io_limit) const;

private:
    Fd memory_;
    Fd io_;
};

} // namespace thaw::worker
