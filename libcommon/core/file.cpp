// SPDX-License-Identifier: MIT
#include "core/file.hpp"

#include "core/text.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>

namespace thaw {

namespace {

// A system call again until no signal interrupts it.
template <class Call>
auto retry_interrupted(Call call) {
    auto result = call();
    while (result < 0 && errno == EINTR)
        result = call();
    return result;
}

struct SplitPath {
    std::string directory; // never empty
    std::string name;
};

SplitPath split_path(const std::string& path) {
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) return {".", path};
    return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

// The name does not contain the target's, so that the longest file name still has a temporary one.
// The leading dot keeps it out of "*.json" and "*.conf" scans after a crash in between.
Result<std::string> temporary_name() {
    std::uint64_t random = 0;
    if (retry_interrupted([&] { return getrandom(&random, sizeof(random), 0); }) !=
        static_cast<ssize_t>(sizeof(random)))
        return fail_errno(errno, "get random bytes");
    return ".#thaw" + hex_encode(&random, sizeof(random));
}

// A file under a temporary name that is removed unless it reached its final one.
class TemporaryFile {
public:
    TemporaryFile(int directory, std::string name)
        : directory_(directory), name_(std::move(name)) {}
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() {
        if (!name_.empty()) unlinkat(directory_, name_.c_str(), 0);
    }
    Result<> rename_to(const std::string& final_name) {
        if (renameat(directory_, name_.c_str(), directory_, final_name.c_str()) < 0)
            return fail_errno(errno, "rename to {}", final_name);
        name_.clear();
        return {};
    }

private:
    int directory_;
    std::string name_;
};

Result<> sync_file(int fd, const char* what) {
    if (retry_interrupted([&] { return fsync(fd); }) < 0) return fail_errno(errno, "{}", what);
    return {};
}

Result<> write_atomic(
    int directory, const std::string& name, std::string_view content, mode_t mode,
    Durability durability
) {
    THAW_TRY(const std::string temporary, temporary_name());
    THAW_TRY(Fd fd, open_at(directory, temporary, O_WRONLY | O_CREAT | O_EXCL, 0600));
    TemporaryFile guard(directory, temporary);
    THAW_CHECK(write_all(fd.get(), content));
    // Exactly `mode`, whatever the umask is: readers of another user depend on it.
    if (fchmod(fd.get(), mode) < 0) return fail_errno(errno, "set mode {:o}", mode);
    if (durability == Durability::Disk) THAW_CHECK(sync_file(fd.get(), "fsync"));
    THAW_CHECK(guard.rename_to(name));
    if (durability == Durability::Disk) THAW_CHECK(sync_file(directory, "fsync the directory"));
    return {};
}

} // namespace

Result<Fd> open_file(const std::string& path, int flags, mode_t mode) {
    return open_at(AT_FDCWD, path, flags, mode);
}

Result<Fd> open_at(int directory, const std::string& name, int flags, mode_t mode) {
    const int fd =
        retry_interrupted([&] { return openat(directory, name.c_str(), flags | O_CLOEXEC, mode); });
    if (fd < 0) return fail_errno(errno, "open {}", name);
    return Fd(fd);
}

namespace {

Result<Fd> open_beneath_at_once(int directory, const std::string& name, int flags, mode_t mode) {
    struct open_how how = {};
    how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
    // openat2() refuses a mode that nothing would use; open() ignores it.
    const bool creates = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
    how.mode = creates ? mode & 07777U : 0;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    // EAGAIN: something was renamed during the walk and the kernel cannot tell whether that led
    // out; the manual page says to try again. Bounded, as an attacker may rename for ever.
    constexpr int kRenameRaces = 32;
    long fd = -1;
    for (int attempt = 0; attempt < kRenameRaces; ++attempt) {
        fd = retry_interrupted([&] {
            return syscall(SYS_openat2, directory, name.c_str(), &how, sizeof(how));
        });
        if (fd >= 0 || errno != EAGAIN) break;
    }
    if (fd < 0) return fail_errno(errno, "open {}", name);
    return Fd(static_cast<int>(fd));
}

// The same, one component at a time: no "..", no link is followed, so no step leads out.
Result<Fd> open_beneath_by_steps(int directory, const std::string& name, int flags, mode_t mode) {
    if (name.empty()) return fail_errno(ENOENT, "open {}", name);
    if (name.front() == '/') return fail_errno(EXDEV, "open {}", name);
    Fd parent;
    std::size_t begin = 0;
    for (;;) {
        const auto end = name.find('/', begin);
        const auto component = name.substr(begin, end - begin);
        if (component == "..") return fail_errno(EXDEV, "open {}", name);
        const bool last = end == std::string::npos;
        const int how = last ? flags | O_NOFOLLOW : O_PATH | O_DIRECTORY | O_NOFOLLOW;
        const int base = parent ? parent.get() : directory;
        const std::string step = component.empty() ? "." : component;
        auto next = open_at(base, step, how, mode);
        if (!next) {
            // O_DIRECTORY | O_NOFOLLOW answers ENOTDIR for a link where openat2() says ELOOP.
            struct stat found = {};
            const bool link = fstatat(base, step.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0 &&
                              S_ISLNK(found.st_mode);
            return fail_errno(link ? ELOOP : next.error().code(), "open {}", name);
        }
        if (last) return next;
        parent = std::move(*next);
        begin = end + 1;
    }
}

} // namespace

Result<Fd> open_beneath(int directory, const std::string& name, int flags, mode_t mode) {
    auto opened = open_beneath_at_once(directory, name, flags, mode);
    // RestrictSUIDSGID= answers openat2() with ENOSYS, as a seccomp filter cannot look into its
    // argument.
    if (!opened && opened.error().code() == ENOSYS)
        return open_beneath_by_steps(directory, name, flags, mode);
    return opened;
}

Result<std::string> read_file(const std::string& path, std::size_t limit) {
    THAW_TRY(const Fd fd, open_file(path, O_RDONLY));
    auto content = read_fd(fd.get(), limit);
    if (!content) return std::unexpected(std::move(content).error().with_context(path));
    return content;
}

Result<std::string> read_fd(int fd, std::size_t limit) {
    constexpr std::size_t kChunk = 16384;
    std::string content;
    for (;;) {
        const std::size_t have = content.size();
        // One byte more than allowed tells "exactly at the limit" from "too big".
        const std::size_t room = std::min(kChunk, limit - have);
        content.resize(have + room + (room < kChunk ? 1 : 0));
        const ssize_t n = retry_interrupted([&] {
            return read(fd, content.data() + have, content.size() - have);
        });
        if (n < 0) return fail_errno(errno, "read");
        content.resize(have + static_cast<std::size_t>(n));
        if (n == 0) return content;
        if (content.size() > limit) return fail(EFBIG, "larger than {} bytes", limit);
    }
}

Result<> pread_exact(int fd, std::span<std::byte> buffer, std::uint64_t offset) {
    if (offset > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()) - buffer.size())
        return fail(EINVAL, "offset {} is out of range", offset);
    std::size_t done = 0;
    while (done < buffer.size()) {
        const ssize_t n = retry_interrupted([&] {
            return pread(
                fd, buffer.data() + done, buffer.size() - done, static_cast<off_t>(offset + done)
            );
        });
        if (n < 0) return fail_errno(errno, "read {} bytes at {}", buffer.size(), offset);
        if (n == 0)
            return fail(EIO, "truncated: {} of {} bytes at offset {}", done, buffer.size(), offset);
        done += static_cast<std::size_t>(n);
    }
    return {};
}

Result<> write_all(int fd, std::span<const std::byte> data) {
    while (!data.empty()) {
        const ssize_t n = retry_interrupted([&] { return write(fd, data.data(), data.size()); });
        if (n < 0) return fail_errno(errno, "write {} bytes", data.size());
        if (n == 0) return fail(EIO, "write {} bytes: nothing was taken", data.size());
        data = data.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

Result<> write_all(int fd, std::string_view data) {
    return write_all(fd, std::as_bytes(std::span(data)));
}

Result<> write_file_atomic(
    const std::string& path, std::string_view content, mode_t mode, Durability durability
) {
    return write_file_atomic_at(AT_FDCWD, path, content, mode, durability);
}

Result<> write_file_atomic_at(
    int directory, const std::string& name, std::string_view content, mode_t mode,
    Durability durability
) {
    const SplitPath path = split_path(name);
    // An own descriptor of the directory: rename and fsync hit the same one that was written to.
    THAW_TRY(const Fd parent, open_at(directory, path.directory, O_RDONLY | O_DIRECTORY));
    auto written = write_atomic(parent.get(), path.name, content, mode, durability);
    if (!written)
        return std::unexpected(std::move(written).error().with_context(fmt::format("write {}", name)
        ));
    return {};
}

Result<> remove_if_exists(const std::string& path) {
    if (unlink(path.c_str()) < 0 && errno != ENOENT) return fail_errno(errno, "remove {}", path);
    return {};
}

Result<FileIdentity> identify(int fd) {
    struct stat st = {};
    if (fstat(fd, &st) < 0) return fail_errno(errno, "stat descriptor {}", fd);
    constexpr std::int64_t kNsecPerSec = 1000000000;
    return FileIdentity{
        .device = st.st_dev,
        .inode = st.st_ino,
        .size = static_cast<std::uint64_t>(st.st_size),
        .mtime_ns = st.st_mtim.tv_sec * kNsecPerSec + st.st_mtim.tv_nsec,
    };
}

} // namespace thaw
