// SPDX-License-Identifier: MIT
#include "core/memfd.hpp"

#include "core/kernel_compat.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw {

namespace {
constexpr int kSizeSeals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
}

Result<Fd> make_sized_memfd(const char* name, std::uint64_t size) {
    constexpr unsigned kBase = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    // Kernels before 6.3 do not know NOEXEC_SEAL and say EINVAL.
    Fd fd(::memfd_create(name, kBase | MFD_NOEXEC_SEAL));
    if (!fd && errno == EINVAL) fd.reset(::memfd_create(name, kBase));
    if (!fd) return fail_errno(errno, "make memfd {}", name);
    // Whoever is handed a descriptor that reads could open it again to write.
    if (::fchmod(fd.get(), 0600) != 0) return fail_errno(errno, "mode of memfd {}", name);
    if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
        return fail_errno(errno, "size memfd {} of {} bytes", name, size);
    if (::fcntl(fd.get(), F_ADD_SEALS, kSizeSeals) != 0)
        return fail_errno(errno, "seal memfd {}", name);
    return fd;
}

bool has_fixed_size(int fd) {
    const int seals = ::fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & kSizeSeals) == kSizeSeals;
}

} // namespace thaw
