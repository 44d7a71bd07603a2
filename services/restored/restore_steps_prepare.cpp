// SPDX-License-Identifier: MIT
// The steps before the VM's unit runs.
#include "api/pager1.hpp"
#include "api/restore1.hpp"
#include "api/shares1.hpp"
#include "backend_choice.hpp"
#include "core/file.hpp"
#include "core/names.hpp"
#include "event/priorities.hpp"
#include "manager.hpp"
#include "page_cache.hpp"
#include "reserve/hint.hpp"
#include "restore_job.hpp"
#include "snapshot_folder.hpp"
#include "space.hpp"
#include "unit_drop_in.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

namespace thaw::restore {

namespace error = restore1::error;

namespace {

constexpr unsigned kSessionAttempts = 5;
constexpr Microseconds kSessionRetry = 100 * kUsecPerMsec;
constexpr mode_t kTicketMode = 0644;

std::optional<Failure> check_drives(const image::Manifest& manifest) {
    for (const auto& drive : manifest.drives)
        if (drive.shared && !drive.read_only)
            return Failure{
                .name = error::kImageInvalid,
                .message = fmt::format("drive {} is shared and writable", drive.id),
            };
    return std::nullopt;
}

// Invalid for one that is behind a URL of a server.
Result<Fd> open_remote(const image::RemoteFile& file) {
    const auto path = image::path_of_url(file.url);
    if (!path) return Fd();
    return open_file(*path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
}

// Of the overlay as a block device.
std::optional<Failure> check_overlay_drive(const image::Manifest& manifest, const std::string& id) {
    if (id.empty()) return std::nullopt;
    if (std::ranges::find(manifest.drives, id, &image::Drive::id) == manifest.drives.end())
        return Failure{
            .name = kErrorInvalidArgs,
            .message = fmt::format("Rootfs: Drive: the image has no drive \"{}\"", id),
        };
    if (::access("/sys/module/nbd", F_OK) < 0)
        return Failure{
            .name = error::kNbdUnavailable,
            .message = "the kernel has no nbd devices: load the module with 'modprobe nbd "
                       "max_part=0', where "
                       "the kernel was built with it",
        };
    return std::nullopt;
}

} // namespace

void RestoreJob::open_image() {
    struct Opened {
        image::OpenImage files;
        Fd remote_memory;
        Fd remote_rootfs;
        double cached = 0;
    };
    disk_ = context().disk.ask<Opened>(
        image_name(image()),
        [images = context().images, name = image()]() -> Result<Opened> {
            Opened opened;
            THAW_TRY(opened.files, images.open(name, image::Store::Remote::Allow));
            const auto& manifest = opened.files.manifest;
            if (!manifest.source) {
                opened.cached = cached_share(opened.files.memory.get(), manifest.memory_size);
                return opened;
            }
            THAW_TRY(opened.remote_memory, open_remote(manifest.source->memory));
            if (manifest.source->rootfs) {
                THAW_TRY(opened.remote_rootfs, open_remote(*manifest.source->rootfs));
            }
            return opened;
        },
        [this](Result<Opened> opened) {
            if (!opened) return failed(image_failure(opened.error()));
            remote_memory_ = std::move(opened->remote_memory);
            remote_rootfs_ = std::move(opened->remote_rootfs);
            on_image_opened(std::move(opened->files), opened->cached);
        }
    );
}

void RestoreJob::on_image_opened(image::OpenImage opened, double cached) {
    const auto& manifest = opened.manifest;
    const auto& vmms = context().config.virtio_fs_vmms;
    const bool has_virtio_fs = std::ranges::find(vmms, manifest.vmm) != vmms.end();
    if (manifest.vmm != "firecracker" && !has_virtio_fs)
        return failed(
            {.name = error::kImageInvalid,
             .message = fmt::format("image of an unknown VMM \"{}\"", manifest.vmm)}
        );
    if (!options_.shares.empty() && !has_virtio_fs)
        return failed(
            {.name = error::kSharesUnsupported,
             .message =
                 fmt::format("{} has no virtio-fs: a VM of it cannot have shares", manifest.vmm)}
        );
    if (options_.shares.empty()) plan_.skip(Step::AddShares);
    if (!options_.rootfs) plan_.skip(Step::StartRootfs);
    if (overlay_drive().empty()) plan_.skip(Step::AttachRootfs);
    if (!options_.track) plan_.skip(Step::CheckTracking);
    if (auto bad = check_drives(manifest)) return failed(std::move(*bad));
    if (auto bad = check_overlay_drive(manifest, overlay_drive())) return failed(std::move(*bad));
    if (auto chosen = choose_backend_of(opened, cached); !chosen)
        return failed({.name = error::kBackendUnsupported, .message = chosen.error().message()});
    instance_.set_written(written_paths(manifest, overlay_drive()));
    image_files_ = std::move(opened);
    finished(Step::OpenImage);
}

Result<> RestoreJob::choose_backend_of(const image::OpenImage& image, double cached) {
    const auto& manifest = image.manifest;
    const BackendQuestion question{
        .requested = options_.backend,
        .policy = context().policy.memory_backend,
        .page_size = manifest.page_size,
        .cached = cached,
        .in_use = context().manager.count_live(image.name) > 0,
        .recorded = static_cast<bool>(image.working_set),
        .layered = manifest.base.has_value(),
        .remote = manifest.source.has_value(),
        .tracked = options_.track,
    };
    THAW_TRY(const auto choice, choose_backend(question));
    chosen_ = choice.backend;
    set_backend(choice.backend, choice.reason);
    instance_.set_backend(choice.backend, choice.reason);
    if (chosen_ == Backend::File) {
        plan_.skip(Step::CreateSession);
        plan_.skip(Step::AwaitServing);
    }
    return {};
}

void RestoreJob::check_unit() {
    systemd_ = context().systemd.read_unit(instance_.unit(), [this](Result<UnitState> unit) {
        if (unit)
            on_unit_read(*unit);
        else
            failed({.name = error::kUnitStartFailed, .message = unit.error().message()});
    });
}

void RestoreJob::on_unit_read(const UnitState& unit) {
    if (unit.load_state == "not-found" || unit.load_state == "masked")
        return failed(
            {.name = error::kUnitStartFailed,
             .message = fmt::format("unit {} is {}", instance_.unit(), unit.load_state)}
        );
    // Running without a record of ours: not ours to roll back.
    if (!unit.is_gone())
        return failed(
            {.name = error::kInstanceExists,
             .message = fmt::format("{} is {} already", instance_.unit(), unit.active_state)}
        );
    if (unit.active_state != "failed") return finished(Step::CheckUnit);
    // A failed unit stays loaded, and would be started with the settings of its last start.
    systemd_ = context().systemd.reset_failed(instance_.unit(), [this](const Result<>&) {
        finished(Step::CheckUnit); // a unit that went meanwhile needs none
    });
}

void RestoreJob::create_session() {
    if (!make(&Made::session)) return;
    const auto& manifest = image_files_.manifest;
    SessionRequest request{
        .name = instance(),
        .unit = instance_.unit(),
        .memory_fd = image_files_.memory.get(),
        .map_fd = image_files_.memory_map.get(),
        .working_set_fd = options_.recording ? -1 : image_files_.working_set.get(),
        .image_id = image::format_id(manifest.id),
        .image_name = image(),
        .memory_size = manifest.memory_size,
        .page_size = manifest.page_size,
        .on_pager_loss = options_.on_pager_loss,
        .prefetch = options_.prefetch && context().policy.prefetch && !options_.recording,
        .prefetch_rate = options_.prefetch_rate,
        .replay_budget = options_.replay_budget,
        .sequential_budget = options_.sequential_budget,
        .recording = options_.recording,
        .track = options_.track,
        .layers_fd = image_files_.layers.get(),
    };
    for (const auto& base : image_files_.bases)
        request.base_fds.push_back(base.memory.get());
    if (manifest.source) {
        const auto& memory = manifest.source->memory;
        request.remote = RemoteMemory{
            .url = remote_memory_ ? std::string() : memory.url,
            .file_fd = remote_memory_.get(),
            .identity = memory.identity,
        };
    }
    pager_ = context().pager.create_session(request, [this](Result<CreatedSession> created) {
        on_session_created(std::move(created));
    });
}

void RestoreJob::on_session_created(Result<CreatedSession> created) {
    if (created) {
        pager_socket_ = created->socket;
        instance_.set_session(created->path);
        instance_.watch_session();
        return finished(Step::CreateSession);
    }
    // A session of that name is a leftover: the unit does not run. And an answer that got lost
    // when the broker was restarted may have left one. Both are closed, then asked for anew.
    const auto failure = pager_failure(created.error());
    const bool again = failure.name == error::kPagerUnavailable ||
                       created.error().bus_name() == pager1::error::kSessionExists;
    if (!again || ++session_attempts_ >= kSessionAttempts) return failed(failure);
    arm(kSessionRetry, [this] {
        pager_ = context().pager.close_session(instance(), [this](const Result<>&) {
            create_session();
        });
    });
}

// The VMM connects when it starts: all shares are up before.
void RestoreJob::add_shares() {
    if (!make(&Made::shares)) return;
    shares_ = context().shares.add_shares(
        instance(), instance_.unit(), options_.shares,
        [this](Result<> added) {
            if (added) return finished(Step::AddShares);
            // A leftover: the unit does not run.
            const bool exists = added.error().bus_name() == shares1::error::kShareExists;
            if (!exists || std::exchange(shares_cleared_, true))
                return failed(shares_failure(added.error()));
            shares_ = context().shares.remove_shares(instance(), [this](Result<> removed) {
                if (!removed) return failed(shares_failure(removed.error()));
                add_shares();
            });
        }
    );
}

void RestoreJob::write_drop_in_step() {
    if (!make(&Made::drop_in)) return;
    if (options_.recording) return write_settings(false);
    disk_ = context().disk.ask<void>(
        snapshot_folder_name(instance()), [vm = instance()] { return make_snapshot_folder(vm); },
        [this](Result<> made) {
            // Without it the VM runs as well; only a snapshot will be refused.
            if (!made) log_warning(log_fields(), "ignoring: {}", made.error().message());
            write_settings(made.has_value());
        }
    );
}

void RestoreJob::write_settings(bool with_snapshots) {
    auto text = drop_in_text(
        instance(), image_files_.manifest, fmt::format("{}/{}", context().images.root(), image()),
        {.shares = !options_.shares.empty(),
         .rootfs = options_.rootfs.has_value(),
         .rootfs_drive = overlay_drive()}
    );
    if (with_snapshots) text += fmt::format("BindPaths={}\n", snapshot_folder(instance()));
    if (auto written = write_drop_in(paths::vm_drop_in(instance()), text); !written)
        return failed(file_failure(reserve::with_release_hint(written.error(), paths::kRuntimeUnits)
        ));
    finished(Step::WriteDropIn);
}

void RestoreJob::write_ticket() {
    if (!make(&Made::ticket)) return;
    auto written = write_file_atomic(
        paths::restore_ticket(instance()), fmt::format("job {}\n", id()), kTicketMode
    );
    if (!written)
        return failed(
            file_failure(reserve::with_release_hint(written.error(), paths::kRestoreRuntime))
        );
    finished(Step::WriteTicket);
}

} // namespace thaw::restore
