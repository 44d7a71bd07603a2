// SPDX-License-Identifier: MIT
// The step that starts the server of the VM's root file system. Whoever connects finds it ready,
// and a base that cannot be read is known before the VM's unit runs.
#include "api/restore1.hpp"
#include "core/names.hpp"
#include "core/rootfs_names.hpp"
#include "reserve/hint.hpp"
#include "restore_job.hpp"
#include "rootfs_options.hpp"

namespace thaw::restore {

namespace error = restore1::error;

void RestoreJob::start_rootfs() {
    const auto& wanted = options_.rootfs;
    if (!wanted) return finished(Step::StartRootfs);
    if (!make(&Made::rootfs)) return;
    auto written = write_rootfs_settings(
        instance(), *wanted, fmt::format("{}/{}", context().images.root(), image())
    );
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
    if (!result) return failed({.name = error::kRootfsFailed, .message = result.error().message()});
    if (*result != "done")
        return failed(
            {.name = error::kRootfsFailed,
             .message = fmt::format(
                 "start of {} ended with \"{}\": its journal says why", rootfs_service(instance()),
                 *result
             )}
        );
    instance_.watch_rootfs();
    finished(Step::StartRootfs);
}

void RestoreJob::on_rootfs_lost(const std::string& why) {
    if (ending_) return;
    failed({.name = error::kRootfsFailed, .message = why});
}

} // namespace thaw::restore
