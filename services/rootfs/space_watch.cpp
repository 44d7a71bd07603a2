// SPDX-License-Identifier: MIT
#include "space_watch.hpp"

#include "log/log.hpp"

namespace thaw::rootfs {

SpaceWatch::SpaceWatch(Bus bus, std::unique_ptr<Disk> disk, std::string path, OnLevel on_level)
    : bus_(std::move(bus)), disk_(std::move(disk)), path_(std::move(path)),
      on_level_(std::move(on_level)),
      client_(bus_, *disk_, "thaw-rootfs", [](guard::Trouble, const Error&) {}) {}

Result<std::unique_ptr<SpaceWatch>>
SpaceWatch::create(EventLoop& loop, std::string path, OnLevel on_level) {
    THAW_TRY(auto bus, Bus::open_system());
    THAW_CHECK(bus.attach(loop));
    THAW_TRY(auto disk, Disk::create(loop));
    std::unique_ptr<SpaceWatch> watch(
        new SpaceWatch(std::move(bus), std::move(disk), std::move(path), std::move(on_level))
    );
    THAW_TRY(watch->watch_, watch->client_.watch([&self = *watch](const auto&) { self.look(); }));
    return watch;
}

void SpaceWatch::look() {
    question_ = client_.find_volume(path_, [this](Result<guard::VolumeView> volume) {
        // Nobody who knows: what was known last stays.
        if (volume)
            on_level_(volume->level, volume->id);
        else
            log_debug("space of {}: {}", path_, volume.error().message());
    });
}

} // namespace thaw::rootfs
