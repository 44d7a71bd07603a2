// SPDX-License-Identifier: MIT
#pragma once

// What every request of HTTP has in common, and what libcurl's results mean.

#include "job.hpp"

namespace thaw::fetchd {

// Everything but the range, the body and the headers that belong to them.
Outcome<> set_up_request(Transfer& transfer, const Engine& engine, const std::string& url);

// Of a transfer that ended with anything but CURLE_OK.
Failure failure_of(CURLcode code, const Transfer& transfer);

} // namespace thaw::fetchd
