// SPDX-License-Identifier: MIT
#include "delta/output_file.hpp"

#include "core/file.hpp"
#include "core/text.hpp"
#include "image/listing.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

namespace thaw::delta {

namespace {

constexpr std::string_view kHiddenPrefix = ".#thaw-delta-";

Result<std::string> hidden_name() {
    std::uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random))
        return fail_errno(errno, "get random bytes");
    return std::string(kHiddenPrefix) + hex_encode(&random, sizeof random);
}

// What a killed process left: its lock is gone with it. Best effort.
void clean_leftovers(int folder) {
    const auto entries = image::list_directory(folder);
    if (!entries) return;
    for (const auto& entry : *entries) {
        if (!entry.starts_with(kHiddenPrefix)) continue;
        const auto file = open_at(folder, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        if (file && flock(file->get(), LOCK_EX | LOCK_NB) == 0) unlinkat(folder, entry.c_str(), 0);
    }
}

} // namespace

OutputFile::OutputFile(Fd folder, std::string name, Existing existing)
    : folder_(std::move(folder)), name_(std::move(name)), existing_(existing) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : folder_(std::move(other.folder_)), name_(std::move(other.name_)), existing_(other.existing_),
      fd_(std::move(other.fd_)), hidden_(std::exchange(other.hidden_, {})) {}

OutputFile::~OutputFile() {
    if (!hidden_.empty()) unlinkat(folder_.get(), hidden_.c_str(), 0);
}

Result<> OutputFile::make_named(mode_t mode) {
    THAW_TRY(const std::string name, hidden_name());
    THAW_TRY(fd_, open_at(folder_.get(), name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
    hidden_ = name;
    // Held by nobody else: the name is random and new.
    if (flock(fd_.get(), LOCK_EX | LOCK_NB) < 0) return fail_errno(errno, "lock {}", name);
    return {};
}

Result<OutputFile> OutputFile::create(const std::string& path, Existing existing, mode_t mode) {
    const auto slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    if (name.empty() || name == "." || name == "..") return fail(EISDIR, "{}: is a folder", path);
    THAW_TRY(Fd opened, open_file(folder, O_RDONLY | O_DIRECTORY));
    struct stat st{};
    if (fstatat(opened.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (existing == Existing::Refuse) return fail(EEXIST, "{}: exists", path);
        if (!S_ISREG(st.st_mode)) return fail(EEXIST, "{}: is not a regular file", path);
    }
    OutputFile file(std::move(opened), std::move(name), existing);
    clean_leftovers(file.folder_.get());
    auto nameless = open_at(file.folder_.get(), ".", O_TMPFILE | O_RDWR, mode);
    if (nameless) {
        file.fd_ = std::move(*nameless);
    } else {
        const int code = nameless.error().code();
        if (code != EOPNOTSUPP && code != EISDIR && code != EINVAL && code != ENOENT)
            return std::unexpected(std::move(nameless).error().with_context(path));
        THAW_CHECK(file.make_named(mode));
    }
    if (fchmod(file.fd_.get(), mode) < 0) return fail_errno(errno, "{}: set mode {:o}", path, mode);
    return file;
}

Result<> OutputFile::link_as(const std::string& name) {
    const auto handle = fmt::format("/proc/self/fd/{}", fd_.get());
    if (linkat(AT_FDCWD, handle.c_str(), folder_.get(), name.c_str(), AT_SYMLINK_FOLLOW) < 0)
        return fail_errno(errno, "name {}", name);
    return {};
}

Result<> OutputFile::rename_to_final() {
    const unsigned flags = existing_ == Existing::Refuse ? RENAME_NOREPLACE : 0;
    const int folder = folder_.get();
    int failed = renameat2(folder, hidden_.c_str(), folder, name_.c_str(), flags);
    if (failed != 0 && errno == EINVAL && flags != 0) {
        // A file system without that flag (NFS): a second name is never taken from anybody either.
        failed = linkat(folder, hidden_.c_str(), folder, name_.c_str(), 0);
        if (failed == 0) unlinkat(folder, hidden_.c_str(), 0);
    }
    if (failed != 0) return fail_errno(errno, "rename to {}", name_);
    hidden_.clear();
    return {};
}

Result<> OutputFile::publish() {
    if (fsync(fd_.get()) < 0) return fail_errno(errno, "fsync {}", name_);
    if (hidden_.empty() && existing_ == Existing::Refuse) {
        THAW_CHECK(link_as(name_));
    } else {
        if (hidden_.empty()) {
            THAW_TRY(const std::string name, hidden_name());
            if (flock(fd_.get(), LOCK_EX | LOCK_NB) < 0) return fail_errno(errno, "lock {}", name);
            THAW_CHECK(link_as(name));
            hidden_ = name;
        }
        THAW_CHECK(rename_to_final());
    }
    if (fsync(folder_.get()) < 0) return fail_errno(errno, "fsync the folder of {}", name_);
    return {};
}

} // namespace thaw::delta
