// SPDX-License-Identifier: MIT
#include "reserve/arm.hpp"

#include "core/file.hpp"
#include "reserve/chunk.hpp"
#include "reserve/directory.hpp"
#include "reserve/file_system.hpp"
#include "reserve/rearm.hpp"
#include "reserve/retry.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tuple>

namespace thaw::reserve {

namespace {

constexpr std::string_view kText =
    "This directory belongs to thaw, which keeps virtual machines asleep on disk.\n"
    "\n"
    "The chunk-NNNN files hold nothing: they only occupy space, so that there is some to give "
    "back\n"
    "when this file system is full. Then run\n"
    "\n"
    "    thawctl reserve release\n"
    "\n"
    "as root, or delete the chunk files (that is the same), and delete what you do not need. The\n"
    "reserve comes back by itself once there is enough room.\n"
    "\n"
    "Leave the directory out of backups, snapshots and reflink copies: a chunk that is shared "
    "with\n"
    "a copy frees nothing. How large the reserve is: /etc/thaw/diskguardd.conf.\n";

Result<> sync_directory(int directory) {
    if (retry([&] { return fsync(directory); }) < 0)
        return fail_errno(errno, "fsync {}", kDirectory);
    return {};
}

// A directory with nothing of worth in it makes way for a subvolume.
void remove_plain_directory(int root, const Volume& volume) {
    const auto directory = open_reserve(root);
    if (!directory || !is_plain_directory_of_btrfs(directory->get(), volume.type)) return;
    const auto entries = list_reserve(directory->get());
    if (!entries || !entries->chunks.empty() || !entries->fresh.empty()) return;
    for (const char* name : {kTextFile, kProbeFile, kFreshSmall})
        unlinkat(directory->get(), name, 0);
    unlinkat(root, kDirectory, AT_REMOVEDIR); // stays when it holds something else
}

Result<Fd> open_or_make_reserve(int root, const Volume& volume) {
    remove_plain_directory(root, volume);
    const auto made = make_reserve_directory(root, kDirectory, volume.type);
    if (!made && made.error().code() != EEXIST) return std::unexpected(made.error());
    auto directory = open_reserve(root);
    if (!directory) return directory;
    // Also of one that exists: its maker may have been killed before. The umask has no say.
    set_no_copy_on_write(directory->get(), volume.type);
    struct stat st{};
    if (fstat(directory->get(), &st) < 0 ||
        ((st.st_mode & 07777) != 0755 && fchmod(directory->get(), 0755) < 0))
        return fail_errno(errno, "set the mode of {}", kDirectory);
    if (made) THAW_CHECK(sync_directory(root));
    return directory;
}

// EBUSY when another process is at it, or has just removed the directory.
Result<> lock_now(int directory) {
    THAW_TRY(const bool held, lock_reserve(directory, 0));
    struct stat st{};
    if (fstat(directory, &st) < 0) return fail_errno(errno, "stat {}", kDirectory);
    if (!held || st.st_nlink == 0) return fail(EBUSY, "{}: another process is at it", kDirectory);
    return {};
}

// A small file under a temporary name that is always the same: a kill leaves nothing to look for.
Result<> write_small(int directory, const char* name, std::string_view content, mode_t mode) {
    unlinkat(directory, kFreshSmall, 0);
    const int raw = retry([&] {
        return openat(
            directory, kFreshSmall, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode
        );
    });
    if (raw < 0) return fail_errno(errno, "make {}", name);
    const Fd file(raw);
    const auto size = static_cast<ssize_t>(content.size());
    errno = EIO; // of a short write, which sets none
    if (retry([&] { return write(raw, content.data(), content.size()); }) != size ||
        fchmod(raw, mode) < 0 || retry([&] { return fsync(raw); }) < 0 ||
        retry([&] { return renameat(directory, kFreshSmall, directory, name); }) < 0) {
        const int error = errno;
        unlinkat(directory, kFreshSmall, 0);
        return fail_errno(error, "write {}", name);
    }
    return sync_directory(directory);
}

Result<> ensure_text(int directory) {
    if (const auto existing = open_beneath(directory, kTextFile, O_RDONLY | O_NONBLOCK)) {
        const auto text = read_fd(existing->get(), 2 * kText.size());
        if (text && *text == kText) return {};
    }
    return write_small(directory, kTextFile, kText, 0644);
}

Result<> ensure_probe_file(int directory) {
    struct stat st{};
    if (fstatat(directory, kProbeFile, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
        return {};
    return write_small(directory, kProbeFile, "", 0600);
}

void remove_leftovers(int directory) {
    const auto entries = list_reserve(directory);
    if (!entries) return;
    for (const auto& name : entries->fresh)
        std::ignore = remove_chunk(directory, name);
}

Result<> verify(int directory, const std::string& name, std::uint64_t length, Backing backing) {
    THAW_TRY(const auto facts, look_at_chunk(directory, name));
    const auto chunk = judge_chunk(0, facts, length, backing);
    if (chunk.health != ChunkHealth::Healthy)
        return fail(EOPNOTSUPP, "a new chunk is {}", kChunkHealthNames.name(chunk.health));
    return {};
}

// Allocates and verifies under the temporary name; written bytes when allocating was worth nothing.
Result<> make_fresh(int directory, const std::string& name, std::uint64_t length, Backing backing) {
    const int raw = retry([&] {
        return openat(
            directory, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600
        );
    });
    if (raw < 0) return fail_errno(errno, "make a chunk");
    const Fd file(raw);
    THAW_CHECK(fill_chunk(file.get(), length, backing == Backing::Thin));
    if (verify(directory, name, length, backing)) return {};
    THAW_CHECK(fill_chunk(file.get(), length, true));
    // Some count a file's blocks only after a commit (zfs).
    if (retry([&] { return syncfs(raw); }) < 0) return fail_errno(errno, "syncfs");
    return verify(directory, name, length, backing);
}

// Lays chunk `index` and puts it in the place of whatever has its name.
Result<> lay(int directory, const Volume& volume, const Plan& plan, unsigned index) {
    const auto fresh = fresh_name(index);
    const auto name = chunk_name(index);
    auto made = make_fresh(directory, fresh, plan.chunk_length(index), volume.backing);
    if (!made) {
        std::ignore = remove_chunk(directory, fresh);
        return made;
    }
    // A directory cannot be renamed over; an empty one goes, a full one is a person's.
    unlinkat(directory, name.c_str(), AT_REMOVEDIR);
    if (retry([&] { return renameat(directory, fresh.c_str(), directory, name.c_str()); }) < 0) {
        const int error = errno;
        std::ignore = remove_chunk(directory, fresh);
        return fail_errno(error, "publish {}", name);
    }
    if (auto synced = sync_directory(directory); !synced) {
        // It may be gone after a crash: then it must not count as held now.
        std::ignore = remove_chunk(directory, name);
        return synced;
    }
    return {};
}

Result<Fd> open_locked(int root, const Volume& volume, bool make) {
    auto directory = make ? open_or_make_reserve(root, volume) : open_reserve(root);
    if (!directory) return directory;
    THAW_CHECK(lock_now(directory->get()));
    return directory;
}

Result<> refill(int directory, const std::string& name, std::uint64_t length, bool write) {
    const int raw = retry([&] {
        return openat(directory, name.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    });
    if (raw < 0) return fail_errno(errno, "open {}", name);
    const Fd file(raw);
    struct stat before{};
    if (fstat(file.get(), &before) < 0) return fail_errno(errno, "stat {}", name);
    auto filled = fill_chunk(file.get(), length, write);
    // What fallocate got before it ran out of room is not kept: the disk is full.
    if (!filled && before.st_size < static_cast<off_t>(length))
        std::ignore = ftruncate(file.get(), before.st_size);
    return filled;
}

Result<> restrict(int directory, const std::string& name) {
    struct stat owner{};
    if (fstat(directory, &owner) < 0) return fail_errno(errno, "stat {}", kDirectory);
    THAW_TRY(const auto file, open_beneath(directory, name, O_RDONLY | O_NONBLOCK));
    if (fchown(file.get(), owner.st_uid, owner.st_gid) < 0 || fchmod(file.get(), 0600) < 0)
        return fail_errno(errno, "restrict {}", name);
    return {};
}

Result<> cut_back(int directory, const std::string& name, std::uint64_t length) {
    if (length == 0) {
        THAW_CHECK(remove_chunk(directory, name));
        return {};
    }
    THAW_TRY(const auto file, open_beneath(directory, name, O_WRONLY | O_NONBLOCK));
    if (retry([&] { return ftruncate(file.get(), static_cast<off_t>(length)); }) < 0)
        return fail_errno(errno, "truncate {}", name);
    return {};
}

Result<> heal_chunk(int directory, const Volume& volume, const Plan& plan, const Chunk& chunk) {
    const auto name = chunk_name(chunk.index);
    const auto length = plan.chunk_length(chunk.index);
    switch (heal_action(chunk.health)) {
    case HealAction::Refill:
        return refill(directory, name, length, volume.backing == Backing::Thin);
    case HealAction::Rewrite:
        return refill(directory, name, length, true);
    case HealAction::Replace:
        return lay(directory, volume, plan, chunk.index);
    case HealAction::CutBack:
        return cut_back(directory, name, length);
    case HealAction::Restrict:
        return restrict(directory, name);
    case HealAction::None:
        break;
    }
    return {};
}

} // namespace

Result<std::optional<unsigned>> lay_next_chunk(const Volume& volume, const Plan& plan) {
    THAW_TRY(const Fd root, open_volume_root(volume));
    THAW_TRY(const Fd directory, open_locked(root.get(), volume, true));
    THAW_CHECK(ensure_text(directory.get()));
    THAW_CHECK(ensure_probe_file(directory.get()));
    remove_leftovers(directory.get());
    for (unsigned index = 0; index < plan.chunks(); index++) {
        THAW_TRY(const auto facts, look_at_chunk(directory.get(), chunk_name(index)));
        const auto chunk = judge_chunk(index, facts, plan.chunk_length(index), volume.backing);
        if (chunk.health != ChunkHealth::Absent) continue;
        THAW_CHECK(lay(directory.get(), volume, plan, index));
        return index;
    }
    return std::nullopt;
}

Result<HealReport> heal(const Volume& volume, const Plan& plan) {
    HealReport report;
    THAW_TRY(const Fd root, open_volume_root(volume));
    auto directory = open_locked(root.get(), volume, false);
    if (!directory) {
        if (directory.error().code() == ENOENT) return report;
        return std::unexpected(directory.error());
    }
    remove_leftovers(directory->get());
    THAW_TRY(const auto measured, measure(volume, plan));
    for (const auto& chunk : measured.chunks) {
        if (heal_action(chunk.health) == HealAction::None) continue;
        if (auto healed = heal_chunk(directory->get(), volume, plan, chunk))
            report.healed.push_back(chunk.index);
        else
            report.problems.push_back({chunk.index, std::move(healed).error()});
    }
    if (measured.holds()) THAW_CHECK(ensure_text(directory->get()));
    return report;
}

} // namespace thaw::reserve
