// SPDX-License-Identifier: MIT
// The steps that start the server of the VM's root file system, and attach it to a block device.
// Whoever connects finds it ready, and a base that cannot be read is known before the VM's unit
// runs.
#include "api/restore1.hpp"
#include "core/names.hpp"
#include "core/rootfs_names.hpp"
#include "pager_client.hpp"
#include "reserve/hint.hpp"
#include "restore_job.hpp"
#include "rootfs_options.hpp"

namespace thaw::restore {

namespace error = restore1::error;

namespace {

constexpr unsigned kBaseAttempts = 5;

std::optional<Failure> judge_start(const std::string& unit, const Result<std::string>& result) {
    if (!result) return Failure{.name = error::kRootfsFailed, .message = result.error().message()};
    if (*result == "done") return std::nullopt;
    return Failure{
        .name = error::kRootfsFailed,
        .message =
            fmt::format("start of {} ended with \"{}\": its journal says why", unit, *result),
    };
}

} // namespace

void RestoreJob::start_rootfs() {
    const auto& wanted = options_.rootfs;
    if (!wanted) return finished(Step::StartRootfs);
    if (remote_base() != nullptr) return release_old_base();
    write_rootfs(base_on_this_host(*wanted, fmt::format("{}/{}", context().images.root(), image()))
    );
}

// Where the base is that was asked for; nullptr: on this host.
const image::RemoteFile* RestoreJob::remote_base() const {
    const auto& wanted = options_.rootfs;
    const auto& source = image_files_.manifest.source;
    if (!wanted || wanted->base != image::kRootfsFile || !source) return nullptr;
    return source->rootfs ? &*source->rootfs : nullptr;
}

// A leftover would be in the way. The VM's unit does not run.
void RestoreJob::release_old_base() {
    if (!make(&Made::base)) return;
    base_ = context().pager.release_rootfs(instance(), [this](const Result<>& released) {
        if (!released) return on_base_served(std::unexpected(released.error()));
        serve_base();
    });
}

void RestoreJob::serve_base() {
    const auto& manifest = image_files_.manifest;
    const auto& rootfs = *remote_base();
    const RootfsServing wanted{
        .vm = instance(),
        .unit = rootfs_service(instance()),
        .id = image::format_id(image::rootfs_id(manifest.id)),
        .image_name = image(),
        .map_fd = image_files_.rootfs_map.get(),
        .remote =
            {.url = remote_rootfs_ ? std::string() : rootfs.url,
             .file_fd = remote_rootfs_.get(),
             .identity = rootfs.identity},
    };
    base_ = context().pager.serve_rootfs(wanted, [this](const Result<std::string>& socket) {
        on_base_served(socket);
    });
}

void RestoreJob::on_base_served(const Result<std::string>& socket) {
    if (!socket) {
        // The answer of a broker that was restarted got lost: asked anew, which starts the next.
        const auto failure = pager_failure(socket.error());
        if (failure.name == error::kPagerUnavailable && ++base_attempts_ < kBaseAttempts)
            return release_old_base();
        return failed(failure);
    }
    RootfsBase base;
    base.socket = *socket;
    if (const auto& rootfs = image_files_.manifest.rootfs) base.digest = rootfs->file.digest;
    base.image = image();
    write_rootfs(base);
}

void RestoreJob::write_rootfs(const RootfsBase& base) {
    const auto& wanted = options_.rootfs;
    if (!wanted || !make(&Made::rootfs)) return;
    auto written = write_rootfs_settings(instance(), *wanted, base);
    if (!written)
        return failed(file_failure(reserve::with_release_hint(written.error(), paths::kRuntimeUnits)
        ));
    // A leftover would be taken for what was asked for. The VM's unit does not run.
    rootfs_ = context().systemd.stop_unit(
        rootfs_socket(instance()), "replace",
        [this](const Result<std::string>&) {
            rootfs_ = context().systemd.start_unit(
                rootfs_service(instance()), "replace",
                [this](const Result<std::string>& result) { on_rootfs_started(result); }
            );
        }
    );
}

void RestoreJob::on_rootfs_started(const Result<std::string>& result) {
    if (auto failure = judge_start(rootfs_service(instance()), result))
        return failed(std::move(*failure));
    instance_.watch_rootfs();
    finished(Step::StartRootfs);
}

// Empty: none.
const std::string& RestoreJob::overlay_drive() const {
    static const std::string none;
    return options_.rootfs ? options_.rootfs->drive : none;
}

void RestoreJob::attach_rootfs() {
    if (!make(&Made::rootfs_device)) return;
    const auto unit = rootfs_device_service(instance());
    rootfs_ = context().systemd.start_unit(
        unit, "replace",
        [this, unit](const Result<std::string>& result) {
            if (auto failure = judge_start(unit, result)) return failed(std::move(*failure));
            instance_.watch_rootfs_device();
            finished(Step::AttachRootfs);
        }
    );
}

void RestoreJob::on_rootfs_lost(const std::string& why) {
    if (ending_) return;
    failed({.name = error::kRootfsFailed, .message = why});
}

} // namespace thaw::restore
