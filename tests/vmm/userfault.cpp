// SPDX-License-Identifier: MIT
#include "userfault.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace thaw::standin {
namespace {

Result<Fd> open_userfault() {
    constexpr int flags = O_CLOEXEC | O_NONBLOCK;
    Fd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
    if (device) {
        Fd fd(::ioctl(device.get(), USERFAULTFD_IOC_NEW, flags));
        return fd ? Result<Fd>(std::move(fd)) : fail(os_error(errno));
    }
    if (errno != ENOENT) {
        return fail(os_error(errno));
    }
    Fd fd(static_cast<int>(::syscall(SYS_userfaultfd, flags)));
    return fd ? Result<Fd>(std::move(fd)) : fail(os_error(errno));
}

} // namespace

Result<Fd> create_userfault(bool remove_events) {
    auto fd = open_userfault();
    if (!fd) {
        return fail("Failed to create UFFD object: " + fd.error());
    }
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = remove_events ? UFFD_FEATURE_EVENT_REMOVE : 0;
    if (::ioctl(fd->get(), UFFDIO_API, &api) != 0) {
        return fail("Failed to create UFFD object: API: " + os_error(errno));
    }
    return fd;
}

Result<void> register_missing(int userfault, const GuestMemory& memory) {
    for (const GuestMemory::Region& region : memory.regions()) {
        uffdio_register request{};
        request.range.start = reinterpret_cast<std::uintptr_t>(region.host);
        request.range.len = region.layout.size;
        request.mode = UFFDIO_REGISTER_MODE_MISSING;
        if (::ioctl(userfault, UFFDIO_REGISTER, &request) != 0) {
            return fail(
                "Failed to register memory address range with the userfaultfd object: " +
                os_error(errno)
            );
        }
    }
    return {};
}

} // namespace thaw::standin
