// SPDX-License-Identifier: MIT
#pragma once

// The directory and socket of one session: RUNTIME/vm/NAME/uffd.sock, and the socket where the
// server of a VM's root file system reads from the cache: RUNTIME/rootfs/NAME.sock. The parents'
// setgid bit hands group thaw-vmm on (tmpfiles.d), so that the broker needs no right to change
// owners.

#include "core/fd.hpp"

#include <string>

namespace thaw::pagerd {

std::string session_directory(const std::string& runtime, const std::string& name);
std::string session_socket_path(const std::string& runtime, const std::string& name);
// Directory 0750, socket 0660, listening, non-blocking. What is there already is replaced.
Result<Fd> make_session_socket(const std::string& runtime, const std::string& name);
// Content when they are not there.
void remove_session_socket(const std::string& runtime, const std::string& name);
void remove_session_directory(const std::string& runtime, const std::string& name);

std::string rootfs_socket_path(const std::string& runtime, const std::string& name);
// 0660, listening for SOCK_SEQPACKET, non-blocking. What is there already is replaced.
Result<Fd> make_rootfs_socket(const std::string& runtime, const std::string& name);

} // namespace thaw::pagerd
