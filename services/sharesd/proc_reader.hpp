// SPDX-License-Identifier: MIT
#pragma once

// What /proc says about a share's daemon. Everything that cannot be read is an Error: the caller
// shows it as unknown, never as zero. Reading other users' processes takes CAP_SYS_PTRACE.

#include "core/enum_table.hpp"
#include "limits.hpp"

#include <sys/types.h>

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace thaw::sharesd {

enum class CountMethod {
    Stat, // the size of /proc/PID/fd is the count: Linux 6.2 and newer
    Walk,
};
inline constexpr EnumTable kCountMethodNames{std::array{
    std::pair{CountMethod::Stat, std::string_view("stat")},
    std::pair{CountMethod::Walk, std::string_view("walk")},
}};
// What this kernel can do.
CountMethod probe_count_method();

Result<std::uint64_t> count_descriptors(pid_t pid, CountMethod method);
Result<std::uint64_t> resident_memory(pid_t pid);
Result<NofileLimits> read_limits(pid_t pid);
// The process that works for `main_pid`: its child in a sandbox of its own, else itself.
Result<pid_t> worker_of(pid_t main_pid);
Result<std::uint64_t> read_nr_open();

// Raises soft and hard limit of a running process; ERANGE instead of lowering one. Above its hard
// limit that takes CAP_SYS_RESOURCE.
Result<> raise_limit_of(pid_t pid, std::uint64_t limit);

// Paths of the UNIX sockets that somebody is connected to, in the text of /proc/PID/net/unix.
std::set<std::string> parse_connected(std::string_view net_unix);
// The same of the network namespace of PID 1, which binds the shares' sockets.
Result<std::set<std::string>> read_connected();

} // namespace thaw::sharesd
