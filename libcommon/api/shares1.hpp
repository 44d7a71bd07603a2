// SPDX-License-Identifier: MIT
#pragma once

// Names of the virtiofs supervisor on the bus.

#include "bus/errors.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>

namespace thaw::shares1 {

inline constexpr const char* kBusName = "org.thaw.shares1";
inline constexpr const char* kPath = "/org/thaw/shares1";
inline constexpr const char* kManagerInterface = "org.thaw.shares1.Manager";
inline constexpr const char* kShareInterface = "org.thaw.shares1.Share";
inline constexpr const char* kSharePrefix = "/org/thaw/shares1/share";
inline constexpr const char* kActionAdd = "org.thaw.shares1.add-share";
inline constexpr const char* kActionRemove = "org.thaw.shares1.remove-share";
inline constexpr const char* kActionAdjust = "org.thaw.shares1.adjust-share";

// Flag of RemoveShare and Share.Remove: also while a VM uses it.
inline constexpr std::uint64_t kRemoveForce = 1;

namespace error {
// No share of that VM and tag.
inline constexpr std::string_view kNoSuchShare = "org.thaw.shares1.Error.NoSuchShare";
// A share of that VM and tag exists.
inline constexpr std::string_view kShareExists = "org.thaw.shares1.Error.ShareExists";
// The limit of shares is reached.
inline constexpr std::string_view kTooManyShares = "org.thaw.shares1.Error.TooManyShares";
// Not a VM's name.
inline constexpr std::string_view kInvalidName = "org.thaw.shares1.Error.InvalidName";
// Not a tag.
inline constexpr std::string_view kInvalidTag = "org.thaw.shares1.Error.InvalidTag";
// The source does not exist.
inline constexpr std::string_view kSourceMissing = "org.thaw.shares1.Error.SourceMissing";
// The source is no directory, or its path is not the plain one (symlinks, "..").
inline constexpr std::string_view kSourceInvalid = "org.thaw.shares1.Error.SourceInvalid";
// The source is not below AllowedSources=.
inline constexpr std::string_view kSourceNotAllowed = "org.thaw.shares1.Error.SourceNotAllowed";
// The daemon was given another directory than the one that was checked.
inline constexpr std::string_view kSourceChanged = "org.thaw.shares1.Error.SourceChanged";
// The source is or holds a churning cache.
inline constexpr std::string_view kChurningCache = "org.thaw.shares1.Error.ChurningCache";
// The daemon got fewer descriptors than asked for.
inline constexpr std::string_view kLimitTooLow = "org.thaw.shares1.Error.LimitTooLow";
// File handles are mandatory and not to be had.
inline constexpr std::string_view kHandlesUnavailable = "org.thaw.shares1.Error.HandlesUnavailable";
// This virtiofsd does not have the option.
inline constexpr std::string_view kOptionUnsupported = "org.thaw.shares1.Error.OptionUnsupported";
// There is no virtiofsd, or it is none.
inline constexpr std::string_view kDaemonUnavailable = "org.thaw.shares1.Error.DaemonUnavailable";
// The share's socket could not be made.
inline constexpr std::string_view kSocketFailed = "org.thaw.shares1.Error.SocketFailed";
// The share's daemon did not start.
inline constexpr std::string_view kStartFailed = "org.thaw.shares1.Error.StartFailed";
// A VM uses the share.
inline constexpr std::string_view kInUse = "org.thaw.shares1.Error.InUse";
// The share's daemon does not run.
inline constexpr std::string_view kNotRunning = "org.thaw.shares1.Error.NotRunning";
// The share's daemon or socket could not be stopped.
inline constexpr std::string_view kStopFailed = "org.thaw.shares1.Error.StopFailed";
// What follows is also Share.ErrorName of a share that is lost.
// The daemon met a message it cannot accept.
inline constexpr std::string_view kProtocolError = "org.thaw.shares1.Error.ProtocolError";
// The daemon made a system call its own filter forbids.
inline constexpr std::string_view kSeccompKill = "org.thaw.shares1.Error.SeccompKill";
// The daemon was killed for want of memory.
inline constexpr std::string_view kOutOfMemory = "org.thaw.shares1.Error.OutOfMemory";
// The daemon died of a signal.
inline constexpr std::string_view kDaemonKilled = "org.thaw.shares1.Error.DaemonKilled";
// The daemon ended by itself with an error.
inline constexpr std::string_view kDaemonFailed = "org.thaw.shares1.Error.DaemonFailed";
// The daemon was restarted too often.
inline constexpr std::string_view kRestartLimit = "org.thaw.shares1.Error.RestartLimit";
} // namespace error

// Every error name with the errno it stands for; register_bus_errors() takes it.
inline constexpr std::array kErrors{
    BusErrorName{error::kNoSuchShare, ENXIO},
    BusErrorName{error::kShareExists, EEXIST},
    BusErrorName{error::kTooManyShares, EAGAIN},
    BusErrorName{error::kInvalidName, EINVAL},
    BusErrorName{error::kInvalidTag, EINVAL},
    BusErrorName{error::kSourceMissing, ENOENT},
    BusErrorName{error::kSourceInvalid, ENOTDIR},
    BusErrorName{error::kSourceNotAllowed, EPERM},
    BusErrorName{error::kSourceChanged, ESTALE},
    BusErrorName{error::kChurningCache, EPERM},
    BusErrorName{error::kLimitTooLow, EMFILE},
    BusErrorName{error::kHandlesUnavailable, EOPNOTSUPP},
    BusErrorName{error::kOptionUnsupported, EOPNOTSUPP},
    BusErrorName{error::kDaemonUnavailable, ENOEXEC},
    BusErrorName{error::kSocketFailed, EADDRNOTAVAIL},
    BusErrorName{error::kStartFailed, ECHILD},
    BusErrorName{error::kInUse, EBUSY},
    BusErrorName{error::kNotRunning, ESRCH},
    BusErrorName{error::kStopFailed, EBUSY},
    BusErrorName{error::kProtocolError, EPROTO},
    BusErrorName{error::kSeccompKill, ENOSYS},
    BusErrorName{error::kOutOfMemory, ENOMEM},
    BusErrorName{error::kDaemonKilled, ECHILD},
    BusErrorName{error::kDaemonFailed, ECHILD},
    BusErrorName{error::kRestartLimit, ECHILD},
};

} // namespace thaw::shares1
