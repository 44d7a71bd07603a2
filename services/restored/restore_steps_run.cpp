// SPDX-License-Identifier: MIT
// The steps from the start of the VM's unit to the proof.
#include "api/restore1.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "core/scm.hpp"
#include "restore_job.hpp"
#include "tracked_devices.hpp"

#include <sys/socket.h>

#include <algorithm>

namespace thaw::restore {

namespace error = restore1::error;

namespace {

constexpr Microseconds kApiRetry = 1 * kUsecPerMsec;
constexpr Microseconds kApiRetryMost = 20 * kUsecPerMsec;
constexpr Microseconds kResumeLimit = 8 * kUsecPerSec;

} // namespace

void RestoreJob::start_unit() {
    // The descriptors have done their work: the pager has its own.
    image_files_.memory.reset();
    remote_memory_.reset();
    remote_rootfs_.reset();
    image_files_.memory_map.reset();
    image_files_.rootfs.reset();
    image_files_.rootfs_map.reset();
    image_files_.working_set.reset();
    image_files_.layers.reset();
    image_files_.bases.clear();
    if (!make(&Made::unit)) return;
    // "fail": a stop that somebody has queued is not ours to replace.
    systemd_ =
        context().systemd.start_unit(instance_.unit(), "fail", [this](Result<std::string> result) {
            on_start_job(std::move(result));
        });
}

void RestoreJob::on_start_job(Result<std::string> result) {
    // Used up: nobody else may start an empty VMM with it.
    if (auto removed = remove_if_exists(paths::restore_ticket(instance())); !removed)
        log_warning(log_fields(), "ignoring: {}", removed.error().message());
    if (!result)
        return failed({.name = error::kUnitStartFailed, .message = result.error().message()});
    if (*result != "done") return explain_failed_start(*result);
    unit_started_ = true;
    // Its first news is the unit's state as it is now: it may have ended already.
    instance_.watch_unit();
    finished(Step::StartUnit);
}

// The job's word is one; what the unit met is in its state.
void RestoreJob::explain_failed_start(const std::string& result) {
    systemd_ = context().systemd.read_unit(
        instance_.unit(),
        [this, result](const Result<UnitState>& unit) {
            auto text = fmt::format("start of {} ended with \"{}\"", instance_.unit(), result);
            if (unit && unit->is_gone() && !unit->result.empty() && unit->result != "success")
                text += ": " + describe_unit_end(*unit);
            failed(
                {.name = error::kUnitStartFailed,
                 .message = std::move(text),
                 .timed_out = result == "timeout"}
            );
        }
    );
}

void RestoreJob::await_api() {
    const auto socket = connect_unix(paths::vm_api_socket(instance()), SOCK_STREAM, true);
    if (socket) return finished(Step::AwaitApi);
    const auto delay = std::min(kApiRetry << std::min(api_attempts_++, 5U), kApiRetryMost);
    arm(delay, [this] { await_api(); });
}

void RestoreJob::load_snapshot() {
    const auto& manifest = image_files_.manifest;
    const auto folder = fmt::format("{}/{}", context().images.root(), image());
    const LoadRequest load{
        .state_path = fmt::format("{}/{}", folder, manifest.state.name),
        .backend = chosen_,
        .backend_path = chosen_ == Backend::Uffd
                            ? pager_socket_
                            : fmt::format("{}/{}", folder, manifest.memory.name),
        .network_overrides = options_.network_overrides,
    };
    const HttpRequest request{
        .socket_path = paths::vm_api_socket(instance()),
        .method = "PUT",
        .path = "/snapshot/load",
        .body = load_body(load),
        .timeout = options_.load_timeout,
    };
    http_ = context().vmm.send(request, [this](const Result<HttpReply>& reply) {
        auto bad = judge_reply(reply, "load snapshot", error::kLoadFailed, error::kLoadTimeout);
        if (bad)
            failed(std::move(*bad));
        else
            finished(Step::LoadSnapshot);
    });
}

// The VM stands still: it was loaded and never ran.
void RestoreJob::check_tracking() {
    const HttpRequest request{
        .socket_path = paths::vm_api_socket(instance()),
        .method = "GET",
        .path = "/vm/config",
        .body = {},
        .timeout = kResumeLimit,
    };
    http_ = context().vmm.send(request, [this](const Result<HttpReply>& reply) {
        auto bad = judge_reply(
            reply, "show its devices", error::kTrackingUnsupported, error::kTrackingUnsupported
        );
        if (!bad) bad = judge_devices(image_files_.manifest.vmm, reply->body);
        if (bad)
            failed(std::move(*bad));
        else
            await_tracking();
    });
}

void RestoreJob::await_tracking() {
    pager_ = context().pager.read_session(instance(), [this](const Result<PagerSession>& session) {
        if (session && session->tracking == "armed") return finished(Step::CheckTracking);
        if (session && (session->tracking == "failed" || session->tracking == "off"))
            return failed(
                {.name = error::kTrackingUnsupported,
                 .message = "the kernel does not let the pager watch what the VM writes"}
            );
        arm(kApiRetryMost, [this] { await_tracking(); });
    });
}

void RestoreJob::resume_vm() {
    const HttpRequest request{
        .socket_path = paths::vm_api_socket(instance()),
        .method = "PATCH",
        .path = "/vm",
        .body = vm_state_body(VmState::Resumed),
        .timeout = kResumeLimit,
    };
    http_ = context().vmm.send(request, [this](const Result<HttpReply>& reply) {
        auto bad = judge_reply(reply, "resume", error::kResumeFailed, error::kResumeFailed);
        if (bad)
            failed(std::move(*bad));
        else
            finished(Step::ResumeVm);
    });
}

void RestoreJob::await_serving() {
    if (session_.serves()) finished(Step::AwaitServing);
}

void RestoreJob::confirm_unit() {
    systemd_ = context().systemd.read_unit(instance_.unit(), [this](Result<UnitState> unit) {
        if (!unit)
            failed({.name = error::kProofFailed, .message = unit.error().message()});
        else if (unit->is_gone())
            failed({.name = error::kVmmDied, .message = describe_unit_end(*unit)});
        else if (unit->active_state != "active")
            failed(
                {.name = error::kProofFailed,
                 .message = fmt::format("{} is {}", instance_.unit(), unit->active_state)}
            );
        else
            finished(Step::ConfirmUnit);
    });
}

} // namespace thaw::restore
