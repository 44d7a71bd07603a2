// SPDX-License-Identifier: MIT
#pragma once

// Client of org.thaw.diskguard1 for daemons: room for expensive work, and the state of volumes.
// Asynchronous; signals are hints, what they hint at is read again. Where no guardian is, free
// space is looked at directly (statvfs) and that is told once.

#include "api/diskguard1.hpp"
#include "bus/bus.hpp"
#include "core/fd.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace thaw::guard {

using diskguard1::Level;
using diskguard1::Writers;

// A volume as its guardian shows it.
struct VolumeView {
    std::string id;
    std::string object;
    std::string mount_point;
    Level level = Level::Unknown;
    Writers writers = Writers::Continue;
    std::uint64_t total = 0;
    std::uint64_t free = 0;
    std::uint64_t free_inodes = 0;
    std::uint64_t releasable = 0;
    bool operator==(const VolumeView&) const = default;
};
// Reads what Properties.GetAll answers (the cursor stands at the dictionary a{sv}).
Result<VolumeView> read_volume(BusMessage& message);

// Room was found. Keep it as long as the work writes; closing it gives the promise back.
struct Admission {
    Fd lease;           // invalid: nobody keeps promises there
    std::string volume; // id; empty when the path is on no guarded volume
};

// Owns an outstanding question or a watch; destroying it forgets the handler.
class GuardOperation {
public:
    virtual ~GuardOperation() = default;
};
using GuardHandle = std::unique_ptr<GuardOperation>;

class GuardClient {
public:
    // `who` names the program in leases and refusals. `absent` runs once, when there turns out to
    // be no guardian. `bus` must outlive the client, and the client its operations.
    GuardClient(Bus& bus, std::string who, std::function<void()> absent);
    GuardClient(const GuardClient&) = delete;
    GuardClient& operator=(const GuardClient&) = delete;

    // Room for new work that writes `bytes` to the file system of `path`: refused with
    // diskguard1::error::kNoSpace (ENOSPC, the numbers are in the message) when the volume is
    // critical or full, or when what is free and not promised does not hold them. Any other trouble
    // with the guardian falls back to statvfs.
    [[nodiscard]] GuardHandle admit(
        const std::string& path, std::uint64_t bytes, const std::string& why,
        std::function<void(Result<Admission>)> handler
    );
    // The volume of a path: ENXIO (kNoSuchVolume) when none is guarded there.
    [[nodiscard]] GuardHandle
    find_volume(const std::string& path, std::function<void(Result<VolumeView>)> handler);
    // All volumes: soon, and after every change, until dropped. An empty list while there is no
    // guardian: it may come back with any of them, so keep to what was known last.
    [[nodiscard]] Result<GuardHandle>
    watch(std::function<void(const std::vector<VolumeView>&)> handler);
    // Tells the guardian that the writers of a volume were paused or resumed.
    [[nodiscard]] GuardHandle report_writers(
        const std::string& volume, bool paused, std::uint32_t count,
        std::function<void(Result<>)> handler
    );

private:
    class Question;
    class Watch;
    void tell_absent();
    // By statvfs alone.
    static Result<Admission>
    admit_directly(const std::string& who, const std::string& path, std::uint64_t bytes);

    Bus& bus_;
    std::string who_;
    std::function<void()> absent_;
};

} // namespace thaw::guard
