// SPDX-License-Identifier: MIT
#pragma once

// What the parts of the manager share. Everything outlives every job and instance.

#include "bus/bus.hpp"
#include "config.hpp"
#include "event/disk.hpp"
#include "guard/guard_client.hpp"
#include "image/store.hpp"
#include "metrics/dirty_throttle.hpp"
#include "pager_client.hpp"
#include "policy.hpp"
#include "records.hpp"
#include "shares_client.hpp"
#include "systemd/manager_client.hpp"
#include "vmm_api.hpp"

namespace thaw::restore {

class Manager;

struct Context {
    EventLoop& loop;
    Bus& bus;
    SystemdClient& systemd;
    PagerClient& pager;
    SharesClient& shares;
    guard::GuardClient& guard;
    VmmApi& vmm;
    Disk& disk;
    metrics::DirtyThrottle& throttle; // held while a thread writes through the page cache
    const image::Store& images;
    const RecordStore& records;
    const Config& config;
    const Policy& policy;
    Manager& manager;
};

// What Disk is asked about when it is asked about an image.
inline std::string image_name(const std::string& image) {
    return "image " + image;
}

} // namespace thaw::restore
