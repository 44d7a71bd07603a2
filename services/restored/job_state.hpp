// SPDX-License-Identifier: MIT
#pragma once

// The words of jobs, VMs and memory backends, as the bus, the journal and the records have them.

#include "core/enum_table.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace thaw::restore {

using std::string_view_literals::operator""sv;

enum class JobKind { Restore, Stop, Record, Snapshot };
inline constexpr EnumTable kJobKindNames{std::array{
    std::pair{JobKind::Restore, "restore"sv},
    std::pair{JobKind::Stop, "stop"sv},
    std::pair{JobKind::Record, "record"sv},
    std::pair{JobKind::Snapshot, "snapshot"sv},
}};

enum class JobState {
    Queued,
    Preflight,
    Reserving,
    Preparing,
    Starting,
    Loading,
    Proving,
    Recording, // of a record job: a VM is restored, watched and stopped
    Capturing, // of a snapshot job: the VM is paused and written out
    Sealing,   // files of an image are made
    Undoing,
    Done,
    Failed,
    Canceled,
    Timeout
};
inline constexpr EnumTable kJobStateNames{std::array{
    std::pair{JobState::Queued, "queued"sv},
    std::pair{JobState::Preflight, "preflight"sv},
    std::pair{JobState::Reserving, "reserving"sv},
    std::pair{JobState::Preparing, "preparing"sv},
    std::pair{JobState::Starting, "starting"sv},
    std::pair{JobState::Loading, "loading"sv},
    std::pair{JobState::Proving, "proving"sv},
    std::pair{JobState::Recording, "recording"sv},
    std::pair{JobState::Capturing, "capturing"sv},
    std::pair{JobState::Sealing, "sealing"sv},
    std::pair{JobState::Undoing, "undoing"sv},
    std::pair{JobState::Done, "done"sv},
    std::pair{JobState::Failed, "failed"sv},
    std::pair{JobState::Canceled, "canceled"sv},
    std::pair{JobState::Timeout, "timeout"sv},
}};

constexpr bool is_final(JobState state) {
    return state >= JobState::Done;
}
// The states that run one after the other in a restore that succeeds.
constexpr bool is_step_state(JobState state) {
    return state >= JobState::Preflight && state <= JobState::Proving;
}
// Forward through the steps (one may be passed over), to the undoing of what was made, to an end.
// A job whose instance lives already, and one that never began, end right away.
constexpr bool may_follow(JobState from, JobState to) {
    if (is_final(from) || from == to) return false;
    if (is_final(to)) return true;
    if (to == JobState::Undoing) return true;
    return from != JobState::Undoing && from < to;
}

// What a VM is for; a recording VM is never anybody's to keep.
enum class InstanceType { Vm, Recording };
inline constexpr EnumTable kInstanceTypeNames{std::array{
    std::pair{InstanceType::Vm, "vm"sv},
    std::pair{InstanceType::Recording, "recording"sv},
}};

enum class InstanceState { Restoring, Running, Paused, Stopping };
inline constexpr EnumTable kInstanceStateNames{std::array{
    std::pair{InstanceState::Restoring, "restoring"sv},
    std::pair{InstanceState::Running, "running"sv},
    std::pair{InstanceState::Paused, "paused"sv},
    std::pair{InstanceState::Stopping, "stopping"sv},
}};
constexpr bool may_follow(InstanceState from, InstanceState to) {
    if (from == to || to == InstanceState::Restoring) return false;
    return from != InstanceState::Stopping;
}

enum class Backend { Auto, Uffd, File };
inline constexpr EnumTable kBackendNames{std::array{
    std::pair{Backend::Auto, "auto"sv},
    std::pair{Backend::Uffd, "uffd"sv},
    std::pair{Backend::File, "file"sv},
}};

} // namespace thaw::restore
