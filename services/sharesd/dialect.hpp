// SPDX-License-Identifier: MIT
#pragma once

// The dialects of virtiofsd and how each is told what to do. Pure decisions.

#include "share_options.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace thaw::sharesd {

enum class Dialect {
    C,        // QEMU's own, of Debian 12
    Rust,     // 1.13: separate options
    RustNext, // 1.14 and newer
};
inline constexpr EnumTable kDialectNames{std::array{
    std::pair{Dialect::C, std::string_view("c")},
    std::pair{Dialect::Rust, std::string_view("rust")},
    std::pair{Dialect::RustNext, std::string_view("rust-next")},
}};

// From the output of --print-capabilities (vhost-user discovery: JSON with type and features).
Result<Dialect> parse_capabilities(std::string_view json);

// What the daemon keeps for itself of its limit, and has open of that when a guest is connected.
std::uint64_t kept_back(Dialect dialect, std::uint64_t threads);
std::uint64_t own_descriptors(Dialect dialect);
// Does a running daemon use a limit that was raised? The Rust ones fix the guest's budget at start.
bool notices_raised_limit(Dialect dialect);

// Where the daemon of every share sees its source.
inline constexpr const char* kSharedDirectory = "/run/thaw/share";
// The socket that systemd hands over.
inline constexpr int kListenFd = 3;

// Whole command line; `handles` is the mode in force. OptionUnsupported names what the dialect
// lacks.
Result<std::vector<std::string>> command_line(
    const std::string& program, Dialect dialect, const std::string& tag,
    const ShareOptions& options, HandleMode handles
);

} // namespace thaw::sharesd
