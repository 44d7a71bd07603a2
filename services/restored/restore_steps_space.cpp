// SPDX-License-Identifier: MIT
// Whether there is room for a restore: promised by the disk guardian, or looked at directly.
#include "api/restore1.hpp"
#include "core/names.hpp"
#include "manager.hpp"
#include "no_space.hpp"
#include "restore_job.hpp"

#include <sys/statvfs.h>

#include <algorithm>

namespace thaw::restore {

namespace error = restore1::error;

void RestoreJob::check_space() {
    struct statvfs fs = {};
    if (statvfs(paths::kRestoreRuntime, &fs) < 0)
        return failed(
            file_failure({errno, fmt::format("{}: {}", paths::kRestoreRuntime, errno_text(errno))})
        );
    const std::uint64_t free_bytes = static_cast<std::uint64_t>(fs.f_bavail) * fs.f_frsize;
    if (free_bytes < context().config.keep_free)
        return failed(
            {.name = error::kNoSpace,
             .message = fmt::format(
                 "{} has {} left, less than KeepFree={}", paths::kRestoreRuntime,
                 format_size(free_bytes), format_size(context().config.keep_free)
             )}
        );
    unasked_ = instance_.record().written;
    unasked_.push_back(context().images.root());
    admit_next();
}

void RestoreJob::admit_next() {
    if (unasked_.empty()) return finished(Step::CheckSpace);
    const auto path = std::move(unasked_.back());
    unasked_.pop_back();
    guard_ = context().guard.admit(
        path, context().config.lease_size, fmt::format("restore of {}", instance()),
        [this, path](Result<guard::Admission> admitted) { on_admitted(path, std::move(admitted)); }
    );
}

void RestoreJob::on_admitted(const std::string& path, Result<guard::Admission> admitted) {
    if (!admitted) return failed(no_space(admitted.error(), path));
    // One promise for each volume: further paths on it need no other.
    const auto same = [&](const guard::Admission& held) {
        return !held.volume.empty() && held.volume == admitted->volume;
    };
    if (std::ranges::none_of(promises_, same)) promises_.push_back(std::move(*admitted));
    admit_next();
}

} // namespace thaw::restore
