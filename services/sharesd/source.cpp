// SPDX-License-Identifier: MIT
#include "source.hpp"

#include "api/shares1.hpp"
#include "dialect.hpp"

#include <fcntl.h>
#include <sys/stat.h>

namespace thaw::sharesd {

namespace error = shares1::error;

namespace {

bool is_source(const struct stat& st, const Source& source) {
    return st.st_dev == source.device && st.st_ino == source.inode;
}

// A symlink on the way is met as ELOOP, or as something that is no directory.
bool has_symlink(const std::string& path) {
    struct stat st = {};
    for (auto slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
        if (lstat(path.substr(0, slash).c_str(), &st) == 0 && S_ISLNK(st.st_mode)) return true;
        if (slash == std::string::npos) return false;
    }
}

} // namespace

Result<Source> open_source(const std::string& path) {
    THAW_TRY(const auto root, open_file("/", O_PATH | O_DIRECTORY));
    auto opened = open_beneath(root.get(), path.substr(1), O_PATH | O_DIRECTORY);
    if (!opened) {
        const int code = opened.error().code();
        if (has_symlink(path))
            return fail_named(
                error::kSourceInvalid, ELOOP,
                "there is a symlink in {}: name the directory that it leads to", path
            );
        if (code == ENOENT)
            return fail_named(error::kSourceMissing, ENOENT, "there is no {}", path);
        return fail_named(error::kSourceInvalid, code, "{}: {}", path, errno_text(code));
    }
    struct stat st = {};
    if (fstat(opened->get(), &st) < 0)
        return fail_named(error::kSourceInvalid, errno, "{}: {}", path, errno_text(errno));
    return Source{std::move(*opened), st.st_dev, st.st_ino};
}

Result<> check_daemon_source(pid_t daemon, const Source& source) {
    const auto root = open_file(fmt::format("/proc/{}/root", daemon), O_PATH | O_DIRECTORY);
    if (!root) return std::unexpected(Error(root.error()));
    struct stat seen = {}, host = {};
    if (fstat(root->get(), &seen) < 0 || stat("/", &host) < 0)
        return fail_errno(errno, "look at what process {} sees", daemon);
    // Its root is the host's until its sandbox has turned into the source.
    if (seen.st_dev == host.st_dev && seen.st_ino == host.st_ino) {
        if (fstatat(root->get(), kSharedDirectory + 1, &seen, AT_SYMLINK_NOFOLLOW) < 0)
            return fail_errno(errno, "look at the source of process {}", daemon);
    }
    if (is_source(seen, source)) return {};
    return fail_named(
        error::kSourceChanged, ESTALE, "the daemon was given another directory than was checked"
    );
}

std::optional<std::string>
held_cache(const Source& source, const std::vector<std::string>& patterns) {
    for (const auto& pattern : patterns)
        if (open_beneath(source.directory.get(), pattern, O_PATH | O_DIRECTORY)) return pattern;
    return std::nullopt;
}

} // namespace thaw::sharesd
