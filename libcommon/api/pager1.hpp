// SPDX-License-Identifier: MIT
#pragma once

// Names of the pager broker on the bus.

#include "bus/errors.hpp"

#include <array>
#include <cerrno>
#include <string_view>

namespace thaw::pager1 {

inline constexpr const char* kBusName = "org.thaw.pager1";
inline constexpr const char* kPath = "/org/thaw/pager1";
inline constexpr const char* kManagerInterface = "org.thaw.pager1.Manager";
inline constexpr const char* kSessionInterface = "org.thaw.pager1.Session";
// On the root object: the cache of remote images.
inline constexpr const char* kCacheInterface = "org.thaw.pager1.Cache";
inline constexpr const char* kSessionPrefix = "/org/thaw/pager1/session";

namespace error {
// No session of that name.
inline constexpr std::string_view kNoSuchSession = "org.thaw.pager1.Error.NoSuchSession";
// A session of that name exists.
inline constexpr std::string_view kSessionExists = "org.thaw.pager1.Error.SessionExists";
// The limit of sessions is reached.
inline constexpr std::string_view kTooManySessions = "org.thaw.pager1.Error.TooManySessions";
// No VMM connected in time.
inline constexpr std::string_view kHandshakeTimeout = "org.thaw.pager1.Error.HandshakeTimeout";
// The VMM's message is not a region list.
inline constexpr std::string_view kHandshakeInvalid = "org.thaw.pager1.Error.HandshakeInvalid";
// The regions overlap, are unaligned or exceed the image.
inline constexpr std::string_view kRegionsInvalid = "org.thaw.pager1.Error.RegionsInvalid";
// The message brought no userfaultfd, or too many descriptors.
inline constexpr std::string_view kDescriptorsInvalid = "org.thaw.pager1.Error.DescriptorsInvalid";
// The peer is not of the session's unit.
inline constexpr std::string_view kPeerMismatch = "org.thaw.pager1.Error.PeerMismatch";
// The regions do not add up to the image.
inline constexpr std::string_view kImageMismatch = "org.thaw.pager1.Error.ImageMismatch";
// The userfaultfd lacks a needed feature.
inline constexpr std::string_view kUffdUnsupported = "org.thaw.pager1.Error.UffdUnsupported";
// The broker was stopped.
inline constexpr std::string_view kBrokerStopped = "org.thaw.pager1.Error.BrokerStopped";
// The broker restarts too often and accepts nothing new.
inline constexpr std::string_view kSafeMode = "org.thaw.pager1.Error.SafeMode";
// The session's worker dies again and again.
inline constexpr std::string_view kWorkerLost = "org.thaw.pager1.Error.WorkerLost";
// The image's memory cannot be read.
inline constexpr std::string_view kSourceFailed = "org.thaw.pager1.Error.SourceFailed";
// What a remote source sent is not what was sealed.
inline constexpr std::string_view kSourceCorrupt = "org.thaw.pager1.Error.SourceCorrupt";
// The VMM has exited.
inline constexpr std::string_view kVmmExited = "org.thaw.pager1.Error.VmmExited";
// The descriptor store is full.
inline constexpr std::string_view kStoreFull = "org.thaw.pager1.Error.StoreFull";
// Nobody serves the session's memory (yet, or any more).
inline constexpr std::string_view kNotServing = "org.thaw.pager1.Error.NotServing";
// The session records nothing.
inline constexpr std::string_view kNotRecording = "org.thaw.pager1.Error.NotRecording";
// Faults were still waiting when the time for Quiesce was over.
inline constexpr std::string_view kQuiesceTimeout = "org.thaw.pager1.Error.QuiesceTimeout";
// What the guest writes is not tracked.
inline constexpr std::string_view kNotTracking = "org.thaw.pager1.Error.NotTracking";
// It is, but nobody can vouch for what was noted.
inline constexpr std::string_view kTrackingFailed = "org.thaw.pager1.Error.TrackingFailed";
// The root file system of that VM is served already.
inline constexpr std::string_view kRootfsExists = "org.thaw.pager1.Error.RootfsExists";
} // namespace error

// Every error name with the errno it stands for; register_bus_errors() takes it.
inline constexpr std::array kErrors{
    BusErrorName{error::kNoSuchSession, ENXIO},
    BusErrorName{error::kSessionExists, EEXIST},
    BusErrorName{error::kTooManySessions, EAGAIN},
    BusErrorName{error::kHandshakeTimeout, ETIMEDOUT},
    BusErrorName{error::kHandshakeInvalid, EPROTO},
    BusErrorName{error::kRegionsInvalid, ERANGE},
    BusErrorName{error::kDescriptorsInvalid, EBADF},
    BusErrorName{error::kPeerMismatch, EPERM},
    BusErrorName{error::kImageMismatch, ESTALE},
    BusErrorName{error::kUffdUnsupported, EOPNOTSUPP},
    BusErrorName{error::kBrokerStopped, ESHUTDOWN},
    BusErrorName{error::kSafeMode, EAGAIN},
    BusErrorName{error::kWorkerLost, ECHILD},
    BusErrorName{error::kSourceFailed, EIO},
    BusErrorName{error::kSourceCorrupt, EBADMSG},
    BusErrorName{error::kVmmExited, ESRCH},
    BusErrorName{error::kStoreFull, ENOSPC},
    BusErrorName{error::kNotServing, ENOTCONN},
    BusErrorName{error::kNotRecording, ENODATA},
    BusErrorName{error::kQuiesceTimeout, ETIMEDOUT},
    BusErrorName{error::kNotTracking, ENODATA},
    BusErrorName{error::kTrackingFailed, EIO},
    BusErrorName{error::kRootfsExists, EEXIST},
};

} // namespace thaw::pager1
