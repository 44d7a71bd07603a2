// SPDX-License-Identifier: MIT
#pragma once

// The kernel's word that tasks wait for disks (PSI), where it may be asked: Linux 5.2 with
// CAP_SYS_RESOURCE, 6.4 without. Nothing runs here while there is no pressure.

#include "core/fd.hpp"
#include "event/event.hpp"

#include <functional>
#include <memory>
#include <string>

namespace thaw::diskguard {

class Pressure {
public:
    // An Error where there is no such word to be had.
    static Result<std::unique_ptr<Pressure>>
    watch(EventLoop& loop, std::function<void()> stalled, const std::string& file = kFile);

    static constexpr const char* kFile = "/proc/pressure/io";

private:
    Fd fd_;
    EventSource source_;
};

} // namespace thaw::diskguard
