// SPDX-License-Identifier: MIT
#include "sealed_memfd.hpp"

#include "core/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>

namespace thaw::pagerd {

Result<Fd> make_sealed_memfd(const char* name, std::span<const std::byte> content) {
    constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    Fd memfd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memfd) return fail_errno(errno, "make a memfd");
    THAW_CHECK(write_all(memfd.get(), content));
    if (::fcntl(memfd.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno(errno, "seal {}", name);
    return memfd;
}

} // namespace thaw::pagerd
