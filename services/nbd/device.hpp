// SPDX-License-Identifier: MIT
#pragma once

// /dev/nbdN by ioctl. In that mode the kernel binds the connection to the process that runs it and
// to those who have the device open: whatever kills them, nothing is left attached. By netlink the
// connection would be the kernel's own, and would stay until somebody takes it away.

#include "core/fd.hpp"
#include "core/text.hpp"
#include "handshake.hpp"

#include <sys/types.h>

#include <string>
#include <vector>

namespace thaw::nbd {

// Numbers of the devices that nobody is connected to, in order. ENODEV: this kernel has none at
// all.
Result<std::vector<unsigned>> free_devices(const std::string& sysfs = "/sys/block");

class Device {
public:
    // Gives device `number` the socket of an export; EBUSY when another got it first.
    static Result<Device> claim(unsigned number, const Fd& socket, const Export& what);

    const std::string& path() const { return path_; }
    Result<dev_t> device_number() const;

    // Serves until the connection ends: on request, with the server, or with an I/O that took
    // longer than kIoTimeout (ETIMEDOUT). A thread of its own runs this, the rest may be called
    // meanwhile.
    Result<> run() const;
    // Once run() has the connection up.
    Result<bool> is_up() const;
    // What the kernel's page cache holds of the device goes to the server.
    Result<> sync() const;
    Result<> disconnect() const;

private:
    Device(std::string path, Fd file, std::uint64_t size)
        : path_(std::move(path)), file_(std::move(file)), size_(size) {}
    std::string path_;
    Fd file_;
    std::uint64_t size_ = 0;
};

// Longer than the 75 s after which a read of a remote base gives up.
inline constexpr Microseconds kIoTimeout = 90 * kUsecPerSec;

} // namespace thaw::nbd
