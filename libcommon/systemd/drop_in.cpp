// SPDX-License-Identifier: MIT
#include "systemd/drop_in.hpp"

#include "core/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace thaw {

namespace {

constexpr mode_t kFileMode = 0644;
constexpr mode_t kFolderMode = 0755;

} // namespace

std::string quote_unit_word(std::string_view word) {
    std::string quoted = "\"";
    for (const char c : word) {
        if (c == '%') quoted += '%';
        if (c == '"' || c == '\\') quoted += '\\';
        quoted += c;
    }
    return quoted + '"';
}

Result<> write_drop_in(const std::string& path, std::string_view text) {
    const auto folder = std::filesystem::path(path).parent_path();
    THAW_CHECK(make_directories(folder.string(), kFolderMode));
    THAW_CHECK(write_file_atomic(path, text, kFileMode));
    const auto units = folder.parent_path().string();
    timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now);
    const timespec times[] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, now};
    if (utimensat(AT_FDCWD, units.c_str(), times, 0) < 0)
        return fail_errno(errno, "set time of {}", units);
    return {};
}

Result<> remove_drop_in(const std::string& path) {
    THAW_CHECK(remove_if_exists(path));
    const auto folder = std::filesystem::path(path).parent_path().string();
    // An admin may have put a drop-in of his own beside ours.
    if (rmdir(folder.c_str()) < 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
        return fail_errno(errno, "remove {}", folder);
    return {};
}

} // namespace thaw
