// SPDX-License-Identifier: MIT
#include "unit_drop_in.hpp"

#include "core/file.hpp"

#include <xxhash.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace thaw::restore {

namespace {

constexpr mode_t kFileMode = 0644;
constexpr mode_t kFolderMode = 0755;

// systemd takes user names of at most 31 characters: 8 + 22, or 8 + 10 + "-" + 12 digits.
constexpr std::string_view kUserPrefix = "thaw-vm-";
constexpr std::size_t kUserNamePart = 22;
constexpr std::size_t kUserNameStart = 10;

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

std::string vmm_user(std::string_view vm) {
    // A hashed name is longer than any that is taken as it is: no VM can ask for another's.
    if (vm.size() <= kUserNamePart) return fmt::format("{}{}", kUserPrefix, vm);
    return fmt::format(
        "{}{}-{:012x}", kUserPrefix, vm.substr(0, kUserNameStart),
        XXH3_64bits(vm.data(), vm.size()) >> 16
    );
}

std::string drop_in_text(
    std::string_view vm, const image::Manifest& manifest, const std::string& image_directory
) {
    std::string text = fmt::format(
        "# Written by thaw-restored for one start; removed when the VM has ended.\n"
        "[Service]\n"
        "User={}\n"
        "BindReadOnlyPaths={}\n",
        vmm_user(vm), quote_unit_word(image_directory)
    );
    for (const auto& drive : manifest.drives) {
        if (!drive.path.starts_with('/')) continue; // below the VM's own directory
        const auto path = quote_unit_word(drive.path);
        if (drive.path.starts_with("/dev/"))
            text += fmt::format("DeviceAllow={} {}\n", path, drive.read_only ? "r" : "rw");
        else
            text +=
                fmt::format("{}={}\n", drive.read_only ? "BindReadOnlyPaths" : "BindPaths", path);
    }
    return text;
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

} // namespace thaw::restore
