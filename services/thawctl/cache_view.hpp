// SPDX-License-Identifier: MIT
#pragma once

// What a person wants to know about the cache of remote images, out of org.thaw.pager1.Cache. Pure.

#include "client.hpp"

#include <string>

namespace thaw::ctl {

// "2 images, 384.0M of 3.0G in memory, ..."; empty while there is no remote image.
std::string cache_room(const Properties& cache);
// "412.0M fetched, 30 hits, 103 misses, ..."; empty when nothing was ever wanted.
std::string cache_use(const Properties& cache);

} // namespace thaw::ctl
