// SPDX-License-Identifier: MIT
#pragma once

// MESSAGE_ID= of every entry that is worth finding later. The texts for people are in
// units/thaw.catalog; a test compares the two lists.

#include <string_view>

namespace thaw::message_id {

// A daemon is ready.
inline constexpr std::string_view kDaemonStarted = "1dfcb2ee5847730b8f8c8c7123ab89a1";
// A daemon stops.
inline constexpr std::string_view kDaemonStopping = "125e6200ef979ff807f389dbe87f4ecf";
// A line of a configuration file was ignored.
inline constexpr std::string_view kConfigWarning = "319ca2b4c77788f7a9fc7bc9ab9b88f9";
// A restore job was accepted.
inline constexpr std::string_view kRestoreStarted = "6d64a7ef61de13e31774afe7d537df1b";
// A VM was restored.
inline constexpr std::string_view kRestoreDone = "941ec9d75e7b431ed982b10b3bbab115";
// A restore failed; the VM's unit was stopped.
inline constexpr std::string_view kRestoreFailed = "5354d5d99f63827860a24e1190aebf98";
// A restore was canceled.
inline constexpr std::string_view kRestoreCanceled = "6e93286999668f7f37be7721f270dff4";
// A VM was stopped on request.
inline constexpr std::string_view kStopDone = "7ea8cd5d12bd4a066b6c50a261f17685";
// A VM is being stopped because its memory, or what else it needs, is lost.
inline constexpr std::string_view kLossFound = "2be8550261c447809172851414388917";
// ... and was stopped.
inline constexpr std::string_view kLossStopped = "b4ebba13560246d9bc67d9593befa0ad";
// A VM's unit could not be stopped.
inline constexpr std::string_view kStopFailed = "a6c7691f1a81992b8567e320c2a1bee4";
// A VM's unit ended by itself.
inline constexpr std::string_view kInstanceLost = "3142ef0b72aceff0af217ddc41c1f7dc";
// A running VM was found again after a restart.
inline constexpr std::string_view kInstanceAdopted = "cf7a4c1f361b8acddc8a002a16338a8b";
// The restore manager was restarted in the middle of a restore.
inline constexpr std::string_view kRestoreInterrupted = "d448f316ef494b69761829f54e9d4bff";
// A circuit breaker was changed.
inline constexpr std::string_view kPolicyChanged = "98c4d33cb862d0326af7746d222eaf7a";
// After a restart a circuit breaker is not what the configuration says.
inline constexpr std::string_view kPolicyKept = "adbb09d46eb14df5b6a5ee8b5ff3beb1";
// The working set of an image was recorded.
inline constexpr std::string_view kRecordDone = "3a7be19c44d34a0d8f7a2f6f1c6d40e2";
// An image could not be recorded.
inline constexpr std::string_view kRecordFailed = "c1d6b5f2e8a94d43b6a5a3ce79c0d18b";
// An image was made of a running VM.
inline constexpr std::string_view kSnapshotDone = "5e6c0b7b1d3f4a8a9f61c8e2d0b74a97";
// No image could be made of a running VM.
inline constexpr std::string_view kSnapshotFailed = "b0a4c7d92e5f4c1b8d3e6f7a9c2b1d04";
// A caller was refused.
inline constexpr std::string_view kAccessDenied = "10032659bf4f4163c119a0070f10a9a0";
// A pager session was made.
inline constexpr std::string_view kSessionCreated = "ba0c446c1264f89649c03f92cb93cb20";
// A VMM handed its memory over; faults are served.
inline constexpr std::string_view kSessionServing = "7b1f889a48709e04918c8d78b69565bf";
// A pager session failed.
inline constexpr std::string_view kSessionFailed = "6ff62fd15cb1d5bc765a1c06991eef67";
// A pager session ended.
inline constexpr std::string_view kSessionClosed = "b15adf7ee35560c925ed86c6d1172309";
// A session was taken over after a restart of the broker.
inline constexpr std::string_view kSessionAdopted = "1c5cbd1fe4cfbe2fd56f96893b054256";
// A connection to a pager socket was refused.
inline constexpr std::string_view kHandshakeRejected = "3735ce9de5acb277b64884da3cb91890";
// A worker was started.
inline constexpr std::string_view kWorkerStarted = "1687d33bd4673e628520d105141ce565";
// A worker died or was stuck and was replaced.
inline constexpr std::string_view kWorkerLost = "ba9dafa3b29fd45313186afcec367f6a";
// The broker restarts too often and accepts nothing new.
inline constexpr std::string_view kSafeMode = "9a039cd8c1810848acbb79bcd924dacc";
// A page of guest memory cannot be served.
inline constexpr std::string_view kPageUnservable = "f03d837673ab4b5751728dbf9ce11c5c";
// The replay of a working set ended early or was refused.
inline constexpr std::string_view kReplayEnded = "4b9fdbaf39bb4dd29e252859d4e33bc5";
// What a guest writes cannot be tracked any more.
inline constexpr std::string_view kTrackingFailed = "a972b23b0f624d279c2ff9d569f0d9fe";
// A remote source sent bytes that are not what was sealed.
inline constexpr std::string_view kChunkCorrupt = "3e9e1e44366ed20c0be92fad639b3693";
// A chunk of a remote image cannot be had now.
inline constexpr std::string_view kChunkFailed = "e979e86819b3fed42e3e81e0c08dfccd";
// Remote images are not cached on disk for a while.
inline constexpr std::string_view kCacheDiskRefused = "38dd15e874093e4a2585c435ad255a04";
// All of a VM's memory is loaded; it needs no pager any more.
inline constexpr std::string_view kSessionComplete = "e58a0d7c96b14cf3ae2b71fd0a4c8d15";
// The descriptor store is full.
inline constexpr std::string_view kStoreFull = "dba9d23f49184c1ba8d51351ad9e3356";
// An image was sealed.
inline constexpr std::string_view kImageSealed = "b629c99c8203676c1694e37eda355a89";
// An image was removed.
inline constexpr std::string_view kImageRemoved = "a08055e99c6c33c9adbd4e52e5e9f103";
// An image failed verification.
inline constexpr std::string_view kImageInvalid = "c6a6966662573abf31b603f901091869";
// An image was added whose memory stays on a server.
inline constexpr std::string_view kImageAdded = "71a9c049e65d436897709ea389e7badc";
// The memory of a remote image is here now.
inline constexpr std::string_view kImagePulled = "03205c0274bc4249a44640dd03df39d5";
// An image was put on a server.
inline constexpr std::string_view kImagePushed = "9a163ea7d3ff4fcaa52e7d1cb83ccc80";
// A volume has room again.
inline constexpr std::string_view kSpaceNormal = "0ba49aa4de7d6aa2541ee524a7dba609";
// A volume is low on space or inodes.
inline constexpr std::string_view kSpaceLow = "d6e44a2c038bdb74e572305fede33157";
// A volume is critical: nothing new is restored or imported there.
inline constexpr std::string_view kSpaceCritical = "c154b23c4825199937c4de4fa3105954";
// A volume is full.
inline constexpr std::string_view kSpaceFull = "6d057764e1463f317a6796bf4bd4040c";
// A reserve is held, and worth its bytes.
inline constexpr std::string_view kReserveArmed = "dd0a6b77e8c2697817994c1cf67566e8";
// A part of a reserve is missing or worth nothing.
inline constexpr std::string_view kReserveDegraded = "fd9430c28221ce7c4a393b645da006ca";
// A reserve is allocated, and releasing it would free next to nothing.
inline constexpr std::string_view kReservePlacebo = "3eb378ca0fe8c39f986fe1c078583f39";
// A reserve holds nothing.
inline constexpr std::string_view kReserveReleased = "b51626d7893607ddd1e89c3ba9505768";
// A reserve was released on request or by policy.
inline constexpr std::string_view kReserveReleasedBy = "71bdf3a5313b141a7e7784ca0662e1ba";
// There is no room to take a reserve's bytes (again).
inline constexpr std::string_view kReserveDeferred = "43bb3b0dadc0f1e4da6de75c29a5698e";
// A reserve cannot be laid or looked at.
inline constexpr std::string_view kReserveFailed = "bc1f8fabae63a142bfea5bcb7097cab2";
// A promise of space was refused.
inline constexpr std::string_view kLeaseRefused = "6cb999d54cbffed36ed9eeec45a18530";
// VMs that write to a full volume were paused.
inline constexpr std::string_view kWritersPaused = "bd495822216ba0d2f05f0557ebb26131";
// VMs that were paused for want of space run again.
inline constexpr std::string_view kWritersResumed = "d8e91d7eb4012e5a2806785aed4fd38e";
// A directory is shared with a VM.
inline constexpr std::string_view kShareStarted = "6d0506340d403aa17664086f921e5fe3";
// A share was asked for that cannot be.
inline constexpr std::string_view kShareRefused = "8f20366cc974c9f53c4a522d3b1d01b0";
// The daemon of a share did not start as it was asked for.
inline constexpr std::string_view kShareStartFailed = "e4bb67e0dc909131c7726372b3c5c9e9";
// A share is over.
inline constexpr std::string_view kShareRemoved = "0266232fd30957561fbc7b190fdb7798";
// A running share was found again after a restart.
inline constexpr std::string_view kShareAdopted = "e27b4d0e61985a5f5e066a0be683f05e";
// The daemon of a share ended as it should.
inline constexpr std::string_view kShareDaemonEnded = "ca8f1e51889e8f752b29e4168bc016cf";
// The daemon of a share failed.
inline constexpr std::string_view kShareDaemonFailed = "9cdb7a665853d44868cd5e6b96b6d7f2";
// A share is lost while its VM may live.
inline constexpr std::string_view kShareLost = "567704bb3d7ea4d093d1a94e334f7c4d";
// A share runs with less than was asked for.
inline constexpr std::string_view kShareDegraded = "7820be5e059a3048a181e7b75f2e35f0";
// A share passed a level of its budget.
inline constexpr std::string_view kShareLevel = "aa1b7daca24ddeaf1d26ff355669ba85";
// A share is out of descriptors.
inline constexpr std::string_view kShareExhausted = "9ddb3171b07561c0ff0702e4fb21d1cc";
// A share has descriptors to give again.
inline constexpr std::string_view kShareRecovered = "d5589fa7c7d9c7405eeb9e47bb502ce5";
// A churning cache is shared.
inline constexpr std::string_view kShareChurns = "2f66dcdafea4908c3bd67255ef1173ce";
// The limit of a running share was raised.
inline constexpr std::string_view kShareLimitRaised = "99b719901ca60b64d4a658e036fd5bee";
// Settings of a share are there without its record.
inline constexpr std::string_view kShareLeftover = "e1db24be67c645b883296b82b4b1b0ca";
// The unit that makes a guest drop its caches did not do it.
inline constexpr std::string_view kShareHookFailed = "b298680a054d4144a90aecfda09f8b94";
// A remote source could not be read.
inline constexpr std::string_view kFetchFailed = "3a5cb35afbb94df98858834826f79052";
// The kernel holds back threads that write through the page cache.
inline constexpr std::string_view kWritesThrottled = "d6420a9dd90f40df95cde85d40a420a9";
// An overlay of a root file system has no room for a write.
inline constexpr std::string_view kRootfsNoSpace = "52f38b1f015449b3a40968388b646bf1";
// Blocks of a root file system could not be read, written or made safe.
inline constexpr std::string_view kRootfsFailed = "89839a9273df46f5bdbb7366934fcdad";
// A root file system got no block device.
inline constexpr std::string_view kRootfsNotAttached = "b24293a5901f4de2a6afcc9cc21412a9";
// A root file system lost its block device while its VM may live.
inline constexpr std::string_view kRootfsDetached = "da19833d8dcf4cd8833784e0e110fc5a";
// An overlay takes no more of a disk that is nearly full.
inline constexpr std::string_view kRootfsGrowthStopped = "07cdbf7762ca450ea15fed90b3e175af";
// An overlay may grow again.
inline constexpr std::string_view kRootfsGrows = "781f208803db4e988bda757c5ebae35c";
// A process connected to read a VM's root file system and was turned away.
inline constexpr std::string_view kRootfsClientRejected = "a4153f7a48814c629e6378b8c7b0db3a";

} // namespace thaw::message_id
