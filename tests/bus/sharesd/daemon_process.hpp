// SPDX-License-Identifier: MIT
#pragma once

// What a scripted systemd starts in place of virtiofsd: a process that sees a directory where the
// unit would have bound the source, with a limit of open files, and opens as many and uses as much
// memory as it is told.

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace thaw::sharesd {

class DaemonProcess {
public:
    // Killed and reaped with the object.
    DaemonProcess(const std::string& source, std::uint64_t limit);
    ~DaemonProcess();
    DaemonProcess(const DaemonProcess&) = delete;
    DaemonProcess& operator=(const DaemonProcess&) = delete;

    pid_t pid() const { return pid_; }
    // Comes back when the process has that many descriptors more than at its start.
    void hold(std::uint32_t descriptors);
    // The same for bytes of memory.
    void occupy(std::uint64_t bytes);

    struct Order {
        std::uint32_t descriptors;
        std::uint64_t bytes;
    };

private:
    void give(Order order);
    pid_t pid_ = -1;
    int control_ = -1;
    Order order_{};
};

} // namespace thaw::sharesd
