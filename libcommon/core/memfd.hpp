// SPDX-License-Identifier: MIT
#pragma once

// Memory with a descriptor whose size never changes, so that whoever maps it never meets SIGBUS.

#include "core/fd.hpp"

#include <cstdint>

namespace thaw {

// `size` bytes of zeros, close-on-exec, sealed against growing, shrinking and further seals, and of
// mode 0600: a descriptor that can only read gives other users nothing more.
// `name` is seen in /proc. EMFILE, ENOMEM and others of the kernel.
Result<Fd> make_sized_memfd(const char* name, std::uint64_t size);
// Whether `fd` is such a memfd.
bool has_fixed_size(int fd);

} // namespace thaw
