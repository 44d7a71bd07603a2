// SPDX-License-Identifier: MIT
#pragma once

// What the end of a share's daemon means, and what follows from it. Pure decisions.

#include "core/enum_table.hpp"
#include "core/text.hpp"
#include "systemd/manager_client.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace thaw::sharesd {

enum class ExitClass {
    None, // it runs, or never ran
    PeerGone,
    ProtocolError,
    Seccomp,
    OutOfMemory,
    Signal,
    StartFailed,
    ExitCode,
    Stopped,
};
// Share.Result
inline constexpr EnumTable kExitClassNames{std::array{
    std::pair{ExitClass::None, std::string_view("")},
    std::pair{ExitClass::PeerGone, std::string_view("peer-gone")},
    std::pair{ExitClass::ProtocolError, std::string_view("protocol-error")},
    std::pair{ExitClass::Seccomp, std::string_view("seccomp")},
    std::pair{ExitClass::OutOfMemory, std::string_view("oom-kill")},
    std::pair{ExitClass::Signal, std::string_view("signal")},
    std::pair{ExitClass::StartFailed, std::string_view("start-failed")},
    std::pair{ExitClass::ExitCode, std::string_view("exit-code")},
    std::pair{ExitClass::Stopped, std::string_view("stopped")},
}};

// A line of virtiofsd's log that means something to us.
enum class LogHint {
    None,
    Waiting,       // listening for its client
    Connected,     // serves a client
    Disconnected,  // the client went
    Exhausted,     // a guest was refused a descriptor; said once in its life
    HandlesOff,    // fell back from file handles
    ProtocolError, // ended by a message it cannot accept, though with status 0
    Error,         // any other error
};
LogHint read_log_line(std::string_view line);

struct ExitQuestion {
    UnitState unit;
    // A sandboxed C daemon that was killed ends with status 1, and says nothing.
    bool is_mute = false;
    bool was_connected = false;
    bool protocol_error_logged = false;
    bool error_logged = false;
};
ExitClass classify_exit(const ExitQuestion& question);
// "killed by SIGKILL", "exited with status 1".
std::string describe_exit(ExitClass exit, const UnitState& unit);
// org.thaw.shares1.Error.*; empty for an end that is no failure.
std::string_view error_of(ExitClass exit);

enum class NextStep {
    End,     // the share is over: socket and settings go
    Restart, // the VMM connects again
    Fail,    // lost: kept on the books as failed
};
struct Follow {
    NextStep step = NextStep::Fail;
    Microseconds delay = 0; // before Restart
    bool counts = false;    // as a restart against the limit
    bool limit_hit = false; // Fail because of it
};
struct FollowQuestion {
    ExitClass exit = ExitClass::None;
    bool reconnectable = false;
    std::uint64_t restarts = 0; // counted within the window
    std::uint64_t limit = 0;
    Microseconds first_delay = 0;
    Microseconds longest_delay = 0;
};
Follow after_exit(const FollowQuestion& question);

} // namespace thaw::sharesd
