// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace thaw::ctl {

// Shows the text through $SYSTEMD_PAGER, $PAGER or less, and waits until it is closed. false when
// there is none or the user wants none ("cat" or an empty variable): print it then.
bool page_text(const std::string& text);

} // namespace thaw::ctl
