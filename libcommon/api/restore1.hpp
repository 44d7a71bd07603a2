// SPDX-License-Identifier: MIT
#pragma once

// Names of the restore manager on the bus.

#include "bus/errors.hpp"

#include <array>
#include <cerrno>
#include <string_view>

namespace thaw::restore1 {

inline constexpr const char* kBusName = "org.thaw.restore1";
inline constexpr const char* kPath = "/org/thaw/restore1";
inline constexpr const char* kManagerInterface = "org.thaw.restore1.Manager";
inline constexpr const char* kJobInterface = "org.thaw.restore1.Job";
inline constexpr const char* kInstanceInterface = "org.thaw.restore1.Instance";
inline constexpr const char* kJobPrefix = "/org/thaw/restore1/job";
inline constexpr const char* kInstancePrefix = "/org/thaw/restore1/instance";
inline constexpr const char* kActionRestore = "org.thaw.restore1.restore-instance";
inline constexpr const char* kActionStop = "org.thaw.restore1.stop-instance";
inline constexpr const char* kActionCancel = "org.thaw.restore1.cancel-job";
inline constexpr const char* kActionRecord = "org.thaw.restore1.record-image";
inline constexpr const char* kActionSnapshot = "org.thaw.restore1.snapshot-instance";
inline constexpr const char* kActionSetPolicy = "org.thaw.restore1.set-policy";

namespace error {
// No VM of that name is on the books.
inline constexpr std::string_view kNoSuchInstance = "org.thaw.restore1.Error.NoSuchInstance";
// A VM of that name runs from another image.
inline constexpr std::string_view kInstanceExists = "org.thaw.restore1.Error.InstanceExists";
// Another job works on that VM.
inline constexpr std::string_view kInstanceBusy = "org.thaw.restore1.Error.InstanceBusy";
// No such image.
inline constexpr std::string_view kNoSuchImage = "org.thaw.restore1.Error.NoSuchImage";
// The image's files or manifest are not usable.
inline constexpr std::string_view kImageInvalid = "org.thaw.restore1.Error.ImageInvalid";
// A file of the image is not the one that was sealed.
inline constexpr std::string_view kImageMismatch = "org.thaw.restore1.Error.ImageMismatch";
inline constexpr std::string_view kNoSuchJob = "org.thaw.restore1.Error.NoSuchJob"; // no such job
// The job is past the point of return.
inline constexpr std::string_view kJobNotCancelable = "org.thaw.restore1.Error.JobNotCancelable";
// The limit of jobs is reached.
inline constexpr std::string_view kTooManyJobs = "org.thaw.restore1.Error.TooManyJobs";
// Not a VM or image name.
inline constexpr std::string_view kInvalidName = "org.thaw.restore1.Error.InvalidName";
// The pager does not answer.
inline constexpr std::string_view kPagerUnavailable = "org.thaw.restore1.Error.PagerUnavailable";
// The pager's session failed.
inline constexpr std::string_view kPagerFailed = "org.thaw.restore1.Error.PagerFailed";
// The share supervisor does not answer.
inline constexpr std::string_view kSharesUnavailable = "org.thaw.restore1.Error.SharesUnavailable";
// A share could not be started, or was lost during the restore.
inline constexpr std::string_view kShareFailed = "org.thaw.restore1.Error.ShareFailed";
// The overlay of the root file system could not be started, or was lost.
inline constexpr std::string_view kRootfsFailed = "org.thaw.restore1.Error.RootfsFailed";
// The kernel has no nbd devices, and the overlay was to be one.
inline constexpr std::string_view kNbdUnavailable = "org.thaw.restore1.Error.NbdUnavailable";
// The VM's unit did not start.
inline constexpr std::string_view kUnitStartFailed = "org.thaw.restore1.Error.UnitStartFailed";
// The VMM's API socket did not answer in time.
inline constexpr std::string_view kVmmUnreachable = "org.thaw.restore1.Error.VmmUnreachable";
// The VMM refused to load the snapshot.
inline constexpr std::string_view kLoadFailed = "org.thaw.restore1.Error.LoadFailed";
// Loading took longer than LoadTimeoutSec=.
inline constexpr std::string_view kLoadTimeout = "org.thaw.restore1.Error.LoadTimeout";
// The VMM refused to resume.
inline constexpr std::string_view kResumeFailed = "org.thaw.restore1.Error.ResumeFailed";
// The VM came up but its pager session never served.
inline constexpr std::string_view kProofFailed = "org.thaw.restore1.Error.ProofFailed";
// The VMM's unit ended during the restore.
inline constexpr std::string_view kVmmDied = "org.thaw.restore1.Error.VmmDied";
// This VMM has no virtio-fs.
inline constexpr std::string_view kSharesUnsupported = "org.thaw.restore1.Error.SharesUnsupported";
// The memory backend cannot read this image.
inline constexpr std::string_view kBackendUnsupported =
    "org.thaw.restore1.Error.BackendUnsupported";
inline constexpr std::string_view kNoSpace = "org.thaw.restore1.Error.NoSpace"; // not enough space
// The VM's unit could not be stopped.
inline constexpr std::string_view kStopFailed = "org.thaw.restore1.Error.StopFailed";
// The job was canceled.
inline constexpr std::string_view kCanceled = "org.thaw.restore1.Error.Canceled";
// The restore manager was restarted in the middle of the job.
inline constexpr std::string_view kManagerRestarted = "org.thaw.restore1.Error.ManagerRestarted";
// The breaker Recording is off.
inline constexpr std::string_view kRecordingDisabled = "org.thaw.restore1.Error.RecordingDisabled";
// The image is being recorded already.
inline constexpr std::string_view kImageBusy = "org.thaw.restore1.Error.ImageBusy";
// The recording VM would write to a drive that outlives it.
inline constexpr std::string_view kDriveWritable = "org.thaw.restore1.Error.DriveWritable";
// The VM touched nothing, or the runs have no page in common.
inline constexpr std::string_view kNothingRecorded = "org.thaw.restore1.Error.NothingRecorded";
// An image of that name exists.
inline constexpr std::string_view kImageExists = "org.thaw.restore1.Error.ImageExists";
// The VMM could not write the VM out.
inline constexpr std::string_view kSnapshotFailed = "org.thaw.restore1.Error.SnapshotFailed";
// The VM has devices that write to its memory past the pager, or this kernel cannot watch writes.
inline constexpr std::string_view kTrackingUnsupported =
    "org.thaw.restore1.Error.TrackingUnsupported";
// The VM was not restored with Track, so nobody knows what it changed.
inline constexpr std::string_view kNotTracked = "org.thaw.restore1.Error.NotTracked";
// It was, but nobody can vouch for what was noted.
inline constexpr std::string_view kTrackingFailed = "org.thaw.restore1.Error.TrackingFailed";
// Other images are laid over the image.
inline constexpr std::string_view kImageHasLayers = "org.thaw.restore1.Error.ImageHasLayers";
// The image's memory is on a server, and this needs it here.
inline constexpr std::string_view kImageIsRemote = "org.thaw.restore1.Error.ImageIsRemote";
} // namespace error

// Every error name with the errno it stands for; register_bus_errors() takes it.
inline constexpr std::array kErrors{
    BusErrorName{error::kNoSuchInstance, ENXIO},
    BusErrorName{error::kInstanceExists, EEXIST},
    BusErrorName{error::kInstanceBusy, EBUSY},
    BusErrorName{error::kNoSuchImage, ENOENT},
    BusErrorName{error::kImageInvalid, EBADMSG},
    BusErrorName{error::kImageMismatch, ESTALE},
    BusErrorName{error::kNoSuchJob, ENXIO},
    BusErrorName{error::kJobNotCancelable, EALREADY},
    BusErrorName{error::kTooManyJobs, EAGAIN},
    BusErrorName{error::kInvalidName, EINVAL},
    BusErrorName{error::kPagerUnavailable, EHOSTDOWN},
    BusErrorName{error::kPagerFailed, EIO},
    BusErrorName{error::kSharesUnavailable, EHOSTDOWN},
    BusErrorName{error::kShareFailed, EIO},
    BusErrorName{error::kRootfsFailed, EIO},
    BusErrorName{error::kNbdUnavailable, EOPNOTSUPP},
    BusErrorName{error::kUnitStartFailed, ECHILD},
    BusErrorName{error::kVmmUnreachable, ECONNREFUSED},
    BusErrorName{error::kLoadFailed, EPROTO},
    BusErrorName{error::kLoadTimeout, ETIMEDOUT},
    BusErrorName{error::kResumeFailed, EPROTO},
    BusErrorName{error::kProofFailed, ENODATA},
    BusErrorName{error::kVmmDied, ESRCH},
    BusErrorName{error::kSharesUnsupported, EOPNOTSUPP},
    BusErrorName{error::kBackendUnsupported, EOPNOTSUPP},
    BusErrorName{error::kNoSpace, ENOSPC},
    BusErrorName{error::kStopFailed, EBUSY},
    BusErrorName{error::kCanceled, ECANCELED},
    BusErrorName{error::kManagerRestarted, ERESTART},
    BusErrorName{error::kRecordingDisabled, EPERM},
    BusErrorName{error::kImageBusy, EBUSY},
    BusErrorName{error::kDriveWritable, EROFS},
    BusErrorName{error::kNothingRecorded, ENODATA},
    BusErrorName{error::kImageExists, EEXIST},
    BusErrorName{error::kSnapshotFailed, EIO},
    BusErrorName{error::kTrackingUnsupported, EOPNOTSUPP},
    BusErrorName{error::kNotTracked, ENODATA},
    BusErrorName{error::kTrackingFailed, EIO},
    BusErrorName{error::kImageHasLayers, EBUSY},
    BusErrorName{error::kImageIsRemote, EREMOTE},
};

} // namespace thaw::restore1
