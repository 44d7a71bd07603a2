// SPDX-License-Identifier: MIT
#pragma once

// Processes by descriptor: a pid can be recycled, a pidfd cannot. Floor: Linux 6.1.

#include "core/fd.hpp"

#include <sys/types.h>

namespace thaw {

Result<Fd> pidfd_open(pid_t pid);
// True once the process has exited (also while it is a zombie).
bool pidfd_has_exited(int pidfd);
Result<> pidfd_send_signal(int pidfd, int signal);
// The pid in our pid namespace; ESRCH once the process was reaped, EREMOTE when it lives in a
// namespace that we cannot see into, EBADF when the descriptor is no pidfd.
Result<pid_t> pidfd_to_pid(int pidfd);

struct Peer {
    Fd pidfd;
    pid_t pid = 0;
    uid_t uid = 0;
};
// The process at the other end of a connected UNIX socket: SO_PEERPIDFD where the kernel has it
// (6.5), else SO_PEERCRED + pidfd_open. ESRCH when it is gone already.
Result<Peer> socket_peer(int socket);

} // namespace thaw
