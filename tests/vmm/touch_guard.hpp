// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

namespace thaw::standin {

/// What happens when a page of guest RAM answers with SIGBUS (a poisoned page): a VMM dies. With
/// `count` the stand-in survives and counts the page, so that a test can name the pages.
void install_sigbus_counter();

/// Each returns false when the access raised SIGBUS and the counter is installed.
bool guarded_read(const std::uint8_t* address, std::uint8_t& value);
bool guarded_write(std::uint8_t* address, std::uint8_t value);
bool guarded_copy(std::uint8_t* to, const std::uint8_t* from, std::size_t size);

} // namespace thaw::standin
