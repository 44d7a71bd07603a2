// SPDX-License-Identifier: MIT
#pragma once

// Names in a directory.

#include "core/error.hpp"

#include <string>
#include <vector>

namespace thaw::image {

// All entries but "." and "..", sorted.
Result<std::vector<std::string>> list_directory(int directory);

} // namespace thaw::image
