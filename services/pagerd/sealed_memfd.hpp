// SPDX-License-Identifier: MIT
#pragma once

#include "core/error.hpp"
#include "core/fd.hpp"

#include <cstddef>
#include <span>

namespace thaw::pagerd {

// What is handed to another program: it can be read and nothing else, by us either.
Result<Fd> make_sealed_memfd(const char* name, std::span<const std::byte> content);

} // namespace thaw::pagerd
