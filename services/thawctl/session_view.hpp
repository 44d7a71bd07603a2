// SPDX-License-Identifier: MIT
#pragma once

// What a person wants to know about a pager session, out of its properties. Pure.

#include "client.hpp"
#include "fields.hpp"

namespace thaw::ctl {

// Adds the lines of `session` (org.thaw.pager1.Session); what does not apply is left out.
void add_session(Fields& fields, const Properties& session);

} // namespace thaw::ctl
