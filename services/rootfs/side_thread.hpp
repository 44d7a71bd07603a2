// SPDX-License-Identifier: MIT
#pragma once

// The thread beside nbdkit's: an event loop with the control socket and the watch over the disk's
// room. Blocks never pass through it, so nothing a guest does waits for it.

#include "open_overlay.hpp"

#include <atomic>
#include <memory>
#include <thread>

namespace thaw::rootfs {

class SideThread {
public:
    // All must outlive the object. Takes settings.control over.
    static Result<std::unique_ptr<SideThread>>
    start(Overlay& overlay, const Settings& settings, const std::atomic<unsigned>& clients);
    SideThread(const SideThread&) = delete;
    SideThread& operator=(const SideThread&) = delete;
    // Ends a point that is held.
    ~SideThread();

private:
    SideThread(Fd stop) : stop_(std::move(stop)) {}
    Fd stop_;
    std::thread thread_;
};

} // namespace thaw::rootfs
