// SPDX-License-Identifier: MIT
#pragma once

// Whether the disk that an overlay spills to has room for more, as the disk guardian sees it.
// Without a guardian nobody is asked: the file system refuses when it is full.

#include "bus/bus.hpp"
#include "event/disk.hpp"
#include "guard/guard_client.hpp"

#include <functional>
#include <memory>
#include <string>

namespace thaw::rootfs {

class SpaceWatch {
public:
    // With the level of the volume that holds `path`, whenever it may have changed.
    using OnLevel = std::function<void(guard::Level, const std::string& volume)>;
    // No bus: an Error. `loop` must outlive the watch.
    static Result<std::unique_ptr<SpaceWatch>>
    create(EventLoop& loop, std::string path, OnLevel on_level);
    SpaceWatch(const SpaceWatch&) = delete;
    SpaceWatch& operator=(const SpaceWatch&) = delete;

private:
    SpaceWatch(Bus bus, std::unique_ptr<Disk> disk, std::string path, OnLevel on_level);
    void look();

    Bus bus_;
    std::unique_ptr<Disk> disk_;
    std::string path_;
    OnLevel on_level_;
    guard::GuardClient client_;
    guard::GuardHandle watch_;
    guard::GuardHandle question_;
};

// At the other levels what is left is for those who have no choice.
constexpr bool may_grow(guard::Level level) {
    return level < guard::Level::Critical;
}

} // namespace thaw::rootfs
