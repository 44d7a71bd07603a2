// SPDX-License-Identifier: MIT
#include "reserve/directory.hpp"

#include "core/file.hpp"
#include "reserve/plan.hpp"
#include "reserve/retry.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

namespace thaw::reserve {

namespace {

constexpr std::string_view kChunkPrefix = "chunk-";
constexpr std::string_view kFreshPrefix = ".fresh-";
constexpr std::size_t kDigits = 4;
constexpr Microseconds kLockPoll = 10 * kUsecPerMsec;

std::optional<unsigned> index_after(std::string_view name, std::string_view prefix) {
    if (!name.starts_with(prefix) || name.size() != prefix.size() + kDigits) return {};
    unsigned index = 0;
    for (const char c : name.substr(prefix.size())) {
        if (c < '0' || c > '9') return {};
        index = index * 10 + static_cast<unsigned>(c - '0');
    }
    return index;
}

Result<Fd> open_interruptibly(int directory, const char* name, int flags) {
    const int fd = retry([&] { return openat(directory, name, flags | O_CLOEXEC); });
    if (fd < 0) return fail_errno(errno, "open {}", name);
    return Fd(fd);
}

} // namespace

std::string chunk_name(unsigned index) {
    return fmt::format("{}{:04}", kChunkPrefix, index);
}

std::string fresh_name(unsigned index) {
    return fmt::format("{}{:04}", kFreshPrefix, index);
}

std::optional<unsigned> chunk_index(std::string_view name) {
    return index_after(name, kChunkPrefix);
}

bool is_fresh_name(std::string_view name) {
    return index_after(name, kFreshPrefix).has_value();
}

Result<Fd> open_volume_root(const Volume& volume) {
    auto root = open_interruptibly(
        AT_FDCWD, volume.mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW
    );
    if (!root) return root;
    struct stat st{};
    if (fstat(root->get(), &st) < 0) return fail_errno(errno, "stat {}", volume.mount_point);
    if (st.st_dev != volume.root_device)
        return fail(ESTALE, "{}: another file system is mounted there now", volume.mount_point);
    return root;
}

Result<Fd> open_reserve(int volume_root) {
    THAW_TRY(
        Fd directory,
        open_interruptibly(volume_root, kDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    );
    struct stat st{};
    if (fstat(directory.get(), &st) < 0) return fail_errno(errno, "stat {}", kDirectory);
    if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return fail(
            EPERM, "{} belongs to uid {}, mode {:o}: not a reserve of ours", kDirectory, st.st_uid,
            st.st_mode & 07777
        );
    return directory;
}

Result<Entries> list_reserve(int directory) {
    // A descriptor of its own: reading moves the offset, and closedir() closes it.
    const int own =
        retry([&] { return openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (own < 0) return fail_errno(errno, "open {}", kDirectory);
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(own), closedir);
    if (!stream) {
        const int error = errno;
        close(own);
        return fail_errno(error, "list {}", kDirectory);
    }
    Entries entries;
    for (;;) {
        errno = 0;
        const dirent* entry = readdir(stream.get());
        if (entry == nullptr) break;
        const std::string_view name = entry->d_name;
        if (const auto index = chunk_index(name)) entries.chunks.push_back(*index);
        if (is_fresh_name(name)) entries.fresh.emplace_back(name);
    }
    if (errno != 0) return fail_errno(errno, "list {}", kDirectory);
    std::ranges::sort(entries.chunks);
    return entries;
}

Result<bool> lock_reserve(int directory, Microseconds patience) {
    const auto deadline = now_monotonic() + patience;
    for (;;) {
        if (retry([&] { return flock(directory, LOCK_EX | LOCK_NB); }) == 0) return true;
        if (errno != EWOULDBLOCK) return fail_errno(errno, "lock {}", kDirectory);
        const auto now = now_monotonic();
        if (now >= deadline) return false;
        usleep(static_cast<useconds_t>(std::min(kLockPoll, deadline - now)));
    }
}

Result<std::uint64_t> remove_chunk(int directory, const std::string& name) {
    struct stat st{};
    if (fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_errno(errno, "stat {}", name);
    std::uint64_t freed = 0;
    int truncate_error = 0;
    if (S_ISREG(st.st_mode)) {
        // O_NONBLOCK: should it have become a FIFO meanwhile, it must not hang us.
        const auto file =
            open_interruptibly(directory, name.c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
        if (file && retry([&] { return ftruncate(file->get(), 0); }) == 0)
            freed = static_cast<std::uint64_t>(st.st_blocks) * 512;
        else
            truncate_error = file ? errno : file.error().code();
    }
    if (retry([&] {
            return unlinkat(directory, name.c_str(), S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
        }) < 0) {
        // Empty is as good as gone.
        if (truncate_error == 0 && S_ISREG(st.st_mode)) return freed;
        return fail_errno(errno, "remove {}", name);
    }
    if (truncate_error != 0 && st.st_nlink == 1)
        freed = static_cast<std::uint64_t>(st.st_blocks) * 512;
    return freed;
}

} // namespace thaw::reserve
