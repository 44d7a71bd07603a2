// SPDX-License-Identifier: MIT
#pragma once

// Client of org.thaw.diskguard1 for daemons: room for expensive work, and the state of volumes.
// Asynchronous; signals are hints, what they hint at is read again. Where no guardian is, or none
// that answers, free space is looked at directly (statvfs, in a thread) and that is told once.

#include "api/diskguard1.hpp"
#include "bus/bus.hpp"
#include "core/fd.hpp"
#include "event/disk.hpp"

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

// Why free space is looked at directly.
enum class Trouble {
    None,
    Absent,  // there is no guardian on this host, or it is masked
    Silent,  // it did not answer in time
    Failing, // it answers, and cannot say
};

// Three questions make an admission; all of them together have this time. A guardian whose own disk
// hangs says so before.
inline constexpr Microseconds kGuardPatience = 15 * kUsecPerSec;

class GuardClient {
public:
    // With the guardian's error; of a kind that was not told since the last admission it granted.
    using OnTrouble = std::function<void(Trouble, const Error&)>;
    // `who` names the program in leases and refusals. `bus` and `disk` must outlive the client, and
    // the client its operations. A guardian that was silent once gets a fifteenth of `patience`
    // until it has admitted something again.
    GuardClient(
        Bus& bus, Disk& disk, std::string who, OnTrouble on_trouble,
        Microseconds patience = kGuardPatience
    );
    GuardClient(const GuardClient&) = delete;
    GuardClient& operator=(const GuardClient&) = delete;

    // Room for new work that writes `bytes` to the file system of `path`: refused with
    // diskguard1::error::kNoSpace (ENOSPC, the numbers are in the message) when the volume is
    // critical or full, or when what is free and not promised does not hold them. ETIMEDOUT when
    // the disk itself does not answer, neither the guardian nor us. Any other trouble with the
    // guardian falls back to statvfs.
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
    void note_trouble(const Error& error);
    void note_admission() { told_ = Trouble::None; }
    // By statvfs alone.
    DiskHandle admit_directly(
        const std::string& path, std::uint64_t bytes, std::function<void(Result<Admission>)> handler
    );

    Bus& bus_;
    Disk& disk_;
    std::string who_;
    OnTrouble on_trouble_;
    Microseconds patience_;
    Trouble told_ = Trouble::None;
};

} // namespace thaw::guard
