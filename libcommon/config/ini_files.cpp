// SPDX-License-Identifier: MIT
// Which files make up a configuration, and in what order.
#include "build_config.hpp"
#include "config/ini.hpp"
#include "core/file.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>

namespace thaw {

namespace {

constexpr std::size_t kMaxConfigSize = 1 << 20;

struct DirectoryCloser {
    void operator()(DIR* directory) const noexcept { closedir(directory); }
};

bool is_null_device(const struct stat& st) {
    return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

// Nothing: the file is not there, or is a link to /dev/null.
Result<std::optional<std::string>> read_if_present(const std::string& path) {
    // O_NONBLOCK: a FIFO of that name must not stop the daemon.
    auto fd = open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (!fd) {
        if (fd.error().code() == ENOENT) return std::nullopt;
        return std::unexpected(std::move(fd).error());
    }
    struct stat st = {};
    if (fstat(fd->get(), &st) < 0) return fail_errno(errno, "stat {}", path);
    if (is_null_device(st)) return std::nullopt;
    if (!S_ISREG(st.st_mode)) return fail(EINVAL, "{} is not a regular file", path);
    auto text = read_fd(fd->get(), kMaxConfigSize);
    if (!text) return std::unexpected(std::move(text).error().with_context(path));
    return std::move(*text);
}

// Adds NAME.conf -> path; a later folder's file takes the place of an earlier one's.
Result<> collect(const std::string& folder, std::map<std::string, std::string>& files) {
    const std::unique_ptr<DIR, DirectoryCloser> directory(opendir(folder.c_str()));
    if (!directory) {
        if (errno == ENOENT) return {};
        return fail_errno(errno, "open {}", folder);
    }
    for (;;) {
        errno = 0;
        const dirent* entry = readdir(directory.get());
        if (!entry) break;
        const std::string name = entry->d_name;
        if (!name.starts_with('.') && name.ends_with(".conf"))
            files[name] = fmt::format("{}/{}", folder, name);
    }
    if (errno != 0) return fail_errno(errno, "list {}", folder);
    return {};
}

} // namespace

ConfigLocation ConfigLocation::of_daemon(std::string_view name) {
    std::string variable = fmt::format("THAW_{}_CONFIG", name);
    std::ranges::transform(variable, variable.begin(), [](unsigned char letter) {
        return static_cast<char>(std::toupper(letter));
    });
    if (const char* named = std::getenv(variable.c_str()); named && *named != '\0')
        return {.file = named, .drop_ins = {fmt::format("{}.d", named)}};
    const std::string file = fmt::format("thaw/{}.conf", name);
    return {
        .file = fmt::format("{}/{}", THAW_SYSCONFDIR, file),
        .drop_ins =
            {
                fmt::format("/usr/lib/{}.d", file),
                fmt::format("/run/{}.d", file),
                fmt::format("{}/{}.d", THAW_SYSCONFDIR, file),
            },
    };
}

Result<std::vector<ConfigWarning>>
read_config(const ConfigLocation& location, const std::vector<ConfigKey>& keys) {
    std::map<std::string, std::string> drop_ins;
    for (const auto& folder : location.drop_ins)
        THAW_CHECK(collect(folder, drop_ins));
    std::vector<std::string> paths = {location.file};
    for (const auto& [name, path] : drop_ins)
        paths.push_back(path);

    std::vector<ConfigWarning> warnings;
    for (const auto& path : paths) {
        THAW_TRY(const auto text, read_if_present(path));
        if (!text) continue;
        auto found = parse_config(*text, path, keys);
        warnings.insert(warnings.end(), found.begin(), found.end());
    }
    return warnings;
}

void log_config_warnings(const std::vector<ConfigWarning>& warnings) {
    for (const auto& warning : warnings)
        log_event(
            LogLevel::Warning, message_id::kConfigWarning,
            {{"CONFIG_FILE", warning.file}, {"CONFIG_LINE", std::to_string(warning.line)}},
            "{}:{}: {}", warning.file, warning.line, warning.text
        );
}

} // namespace thaw
