// SPDX-License-Identifier: MIT
#pragma once

// The directory and socket of one session: RUNTIME/vm/NAME/uffd.sock. The parent's setgid bit hands
// group thaw-vmm on to both (tmpfiles.d), so that the broker needs no right to change owners.

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

} // namespace thaw::pagerd
