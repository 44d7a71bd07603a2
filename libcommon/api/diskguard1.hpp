// SPDX-License-Identifier: MIT
#pragma once

// Names of the disk guardian on the bus.

#include "bus/errors.hpp"
#include "core/enum_table.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>

namespace thaw::diskguard1 {

inline constexpr const char* kBusName = "org.thaw.diskguard1";
inline constexpr const char* kPath = "/org/thaw/diskguard1";
inline constexpr const char* kManagerInterface = "org.thaw.diskguard1.Manager";
inline constexpr const char* kVolumeInterface = "org.thaw.diskguard1.Volume";
inline constexpr const char* kVolumePrefix = "/org/thaw/diskguard1/volume";
inline constexpr const char* kActionRelease = "org.thaw.diskguard1.release-reserve";
inline constexpr const char* kActionReserve = "org.thaw.diskguard1.reserve-space";

// How full a volume is. The order means something: worse is greater.
enum class Level : std::uint8_t { Unknown, Normal, Low, Critical, Full };
inline constexpr EnumTable kLevelNames{std::array{
    std::pair{Level::Unknown, std::string_view("unknown")}, // never measured
    std::pair{Level::Normal, std::string_view("normal")},
    std::pair{Level::Low, std::string_view("low")},
    std::pair{Level::Critical, std::string_view("critical")},
    std::pair{Level::Full, std::string_view("full")},
}};

// What shall become of the VMs that write to a full volume.
enum class Writers : std::uint8_t { Continue, Pause };
inline constexpr EnumTable kWritersNames{std::array{
    std::pair{Writers::Continue, std::string_view("continue")},
    std::pair{Writers::Pause, std::string_view("pause")},
}};

namespace error {
// No guarded volume of that id, or none that holds that path.
inline constexpr std::string_view kNoSuchVolume = "org.thaw.diskguard1.Error.NoSuchVolume";
// Measured free space minus what is promised does not hold it.
inline constexpr std::string_view kNoSpace = "org.thaw.diskguard1.Error.NoSpace";
// The descriptor store takes no more leases.
inline constexpr std::string_view kTooManyLeases = "org.thaw.diskguard1.Error.TooManyLeases";
// The file system did not answer in time.
inline constexpr std::string_view kTimeout = "org.thaw.diskguard1.Error.Timeout";
// The reserve could not be released; the message says which step failed.
inline constexpr std::string_view kReleaseFailed = "org.thaw.diskguard1.Error.ReleaseFailed";
} // namespace error

// Every error name with the errno it stands for; register_bus_errors() takes it.
inline constexpr std::array kErrors{
    BusErrorName{error::kNoSuchVolume, ENXIO},   BusErrorName{error::kNoSpace, ENOSPC},
    BusErrorName{error::kTooManyLeases, ENFILE}, BusErrorName{error::kTimeout, ETIMEDOUT},
    BusErrorName{error::kReleaseFailed, EIO},
};

} // namespace thaw::diskguard1
