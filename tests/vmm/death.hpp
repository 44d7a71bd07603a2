// SPDX-License-Identifier: MIT
#pragma once

#include "profile.hpp"

namespace thaw::standin {

/// Ends the process at once, in the way the profile says, when its `die_at` is this moment.
void die_if_told(const Profile& profile, const char* moment);
/// For `after-ms:N`: starts the clock.
void start_death_clock(const Profile& profile);
/// `ignore_sigterm` and `exit_delay_ms`. Call before any other thread exists.
void prepare_sigterm(const Profile& profile);

} // namespace thaw::standin
