// SPDX-License-Identifier: MIT
#include "core/file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

namespace thaw {

namespace {

// Each level holds a descriptor and a stack frame; our own trees are two levels deep.
constexpr int kMaxDepth = 64;

struct DirectoryCloser {
    void operator()(DIR* directory) const noexcept { closedir(directory); }
};

// Which mount an open file is of. A bind mount of the same file system has the same st_dev, so
// only the mount's own number tells it apart.
Result<std::uint64_t> mount_of(int fd, const std::string& name) {
    struct statx found = {};
    if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &found) < 0)
        return fail_errno(errno, "look at {}", name);
    if ((found.stx_mask & STATX_MNT_ID) == 0) return fail(ENOSYS, "tell the mount of {}", name);
    return found.stx_mnt_id;
}

// What open_folder() does, where openat2() may not be called: O_NOFOLLOW holds for the last
// component, and `name` has only that one.
Result<Fd> open_folder_by_steps(int parent, const std::string& name) {
    THAW_TRY(Fd folder, open_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    THAW_TRY(const auto above, mount_of(parent, name));
    THAW_TRY(const auto here, mount_of(folder.get(), name));
    if (above != here) return fail_errno(EXDEV, "open {}", name);
    return folder;
}

// A folder to be emptied: neither through a symlink nor into another mount, so that a bind mount
// below a runtime directory loses nothing (rmdir of its mount point then says EBUSY).
Result<Fd> open_folder(int parent, const std::string& name) {
    struct open_how how = {};
    how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const long fd = syscall(SYS_openat2, parent, name.c_str(), &how, sizeof(how));
    // RestrictSUIDSGID= answers openat2() with ENOSYS.
    if (fd < 0 && errno == ENOSYS) return open_folder_by_steps(parent, name);
    if (fd < 0) return fail_errno(errno, "open {}", name);
    return Fd(static_cast<int>(fd));
}

Result<std::vector<std::string>> list_folder(int fd, const std::string& name) {
    const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return fail_errno(errno, "list {}", name);
    const std::unique_ptr<DIR, DirectoryCloser> directory(fdopendir(copy));
    if (!directory) {
        const int error = errno;
        close(copy);
        return fail_errno(error, "list {}", name);
    }
    std::vector<std::string> names;
    for (;;) {
        errno = 0;
        const dirent* entry = readdir(directory.get());
        if (!entry) break;
        const std::string_view entry_name = entry->d_name;
        if (entry_name != "." && entry_name != "..") names.emplace_back(entry_name);
    }
    if (errno != 0) return fail_errno(errno, "list {}", name);
    return names;
}

Result<> remove_entry(int parent, const std::string& name, int depth) {
    if (unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
    // EISDIR is Linux's word for "a folder", EPERM that of POSIX.
    if (errno != EISDIR && errno != EPERM) return fail_errno(errno, "remove {}", name);
    if (depth >= kMaxDepth) return fail(ELOOP, "remove {}: nested too deeply", name);
    auto folder = open_folder(parent, name);
    if (!folder) {
        if (folder.error().code() == ENOENT) return {};
        return std::unexpected(std::move(folder).error());
    }
    THAW_TRY(const auto names, list_folder(folder->get(), name));
    for (const auto& child : names)
        THAW_CHECK(remove_entry(folder->get(), child, depth + 1));
    if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) < 0 && errno != ENOENT)
        return fail_errno(errno, "remove {}", name);
    return {};
}

} // namespace

std::string folder_of(const std::string& path) {
    const auto parent = std::filesystem::path(path).parent_path();
    return parent.empty() ? "." : parent.string();
}

Result<> make_directories(const std::string& path, mode_t mode) {
    if (path.empty()) return fail(EINVAL, "make a folder without a name");
    for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
        const bool last = end == std::string::npos;
        const std::string part = path.substr(0, end);
        if (mkdir(part.c_str(), last ? mode : 0755) < 0 && errno != EEXIST)
            return fail_errno(errno, "make folder {}", part);
        if (last) break;
    }
    struct stat st = {};
    if (stat(path.c_str(), &st) < 0) return fail_errno(errno, "make folder {}", path);
    if (!S_ISDIR(st.st_mode)) return fail_errno(ENOTDIR, "make folder {}", path);
    return {};
}

Result<> remove_tree(const std::string& path) {
    std::string target = path;
    while (target.size() > 1 && target.back() == '/')
        target.pop_back();
    const auto slash = target.rfind('/');
    const std::string name = slash == std::string::npos ? target : target.substr(slash + 1);
    if (name.empty() || name == "." || name == "..")
        return fail(EINVAL, "refusing to remove \"{}\"", path);
    const std::string directory = slash == std::string::npos ? "."
                                  : slash == 0               ? "/"
                                                             : target.substr(0, slash);
    auto parent = open_file(directory, O_RDONLY | O_DIRECTORY);
    if (!parent) {
        if (parent.error().code() == ENOENT) return {};
        return std::unexpected(std::move(parent).error());
    }
    auto removed = remove_entry(parent->get(), name, 0);
    if (!removed)
        return std::unexpected(
            std::move(removed).error().with_context(fmt::format("remove {}", path))
        );
    return {};
}

} // namespace thaw
