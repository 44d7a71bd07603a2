// SPDX-License-Identifier: MIT
#pragma once

#include "guest_memory.hpp"
#include "profile.hpp"
#include "result.hpp"

#include <string>

namespace thaw::standin {

/// The message body for this VMM generation, with the profile's misbehaviour worked in.
std::string handshake_body(const Profile& profile, const GuestMemory& memory);

/// Connects once, without retry, and sends the body and the descriptors. Answers the socket, which
/// is empty when this generation closes it after sending. With `never_connect` nothing happens.
Result<Fd> send_handshake(
    const Profile& profile, const GuestMemory& memory, int userfault, const std::string& socket_path
);

} // namespace thaw::standin
