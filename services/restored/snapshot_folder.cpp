// SPDX-License-Identifier: MIT
#include "snapshot_folder.hpp"

#include "core/file.hpp"
#include "core/names.hpp"

#include <sys/stat.h>

#include <filesystem>

namespace thaw::restore {

namespace {

constexpr mode_t kFolderMode = 0770;

} // namespace

std::string snapshot_folder(const std::string& vm) {
    return fmt::format("{}/{}", paths::kSnapshots, vm);
}

std::string snapshot_folder_name(const std::string& vm) {
    return fmt::format("the folder for snapshots of {}", vm);
}

Result<> make_snapshot_folder(const std::string& vm) {
    const auto folder = snapshot_folder(vm);
    THAW_CHECK(remove_snapshot_folder(vm));
    THAW_CHECK(make_directories(folder, kFolderMode));
    // The parent hands its group on: that of the VMMs, who see no folder but their own.
    if (::chmod(folder.c_str(), kFolderMode) != 0) return fail_errno(errno, "chmod {}", folder);
    return {};
}

Result<> remove_snapshot_folder(const std::string& vm) {
    return remove_tree(snapshot_folder(vm));
}

Result<> empty_snapshot_folder(const std::string& vm) {
    const auto folder = snapshot_folder(vm);
    std::error_code code;
    for (const auto& entry : std::filesystem::directory_iterator(folder, code))
        THAW_CHECK(remove_tree(entry.path()));
    if (code) return fail(code.value(), "list {}: {}", folder, code.message());
    return {};
}

} // namespace thaw::restore
