// SPDX-License-Identifier: MIT
#include "reserve/volume.hpp"

#include "core/file.hpp"
#include "reserve/backing.hpp"
#include "reserve/directory.hpp"
#include "reserve/file_system.hpp"
#include "reserve/mounts.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <iterator>

namespace thaw::reserve {

namespace {

// Nothing of ours can be on them, and touching some of them hangs (network) or mounts (autofs).
constexpr auto kForeign = std::to_array<std::string_view>({
    "9p",         "afs",       "autofs", "binfmt_misc", "bpf",     "ceph",    "cgroup",
    "cgroup2",    "cifs",      "coda",   "configfs",    "debugfs", "devpts",  "devtmpfs",
    "efivarfs",   "fusectl",   "gfs2",   "hugetlbfs",   "lustre",  "mqueue",  "nfs",
    "nfs4",       "nsfs",      "ocfs2",  "proc",        "pstore",  "ramfs",   "rpc_pipefs",
    "securityfs", "selinuxfs", "smb3",   "squashfs",    "sysfs",   "tracefs", "virtiofs",
    "erofs",      "iso9660",
});

bool is_foreign(const std::string& type) {
    return type.starts_with("fuse") ||
           std::ranges::find(kForeign, std::string_view(type)) != kForeign.end();
}

Result<Fd> open_nearest(std::string path) {
    for (;;) {
        auto fd = open_file(path, O_PATH);
        if (fd || (fd.error().code() != ENOENT && fd.error().code() != ENOTDIR)) return fd;
        const auto slash = path.find_last_of('/');
        if (slash == std::string::npos || path == "/") return fd;
        path.resize(std::max<std::size_t>(slash, 1));
    }
}

// The root of a mount, unless another mount hides it.
Result<Fd> open_mount(const Mount& mount) {
    THAW_TRY(Fd root, open_file(mount.point, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    THAW_TRY(const auto id, mount_id_of(root.get()));
    if (id != mount.id) return fail(ENOENT, "{}: hidden by another mount", mount.point);
    return root;
}

bool has_reserve(const Mount& mount) {
    const auto root = open_mount(mount);
    return root && open_reserve(root->get()).has_value();
}

// The whole file system before a part of it, then the shorter path.
bool comes_first(const Mount& a, const Mount& b) {
    if ((a.root == "/") != (b.root == "/")) return a.root == "/";
    return a.point.size() < b.point.size();
}

std::vector<Mount> of_device(const std::vector<Mount>& mounts, dev_t device) {
    std::vector<Mount> result;
    std::ranges::copy_if(mounts, std::back_inserter(result), [&](const Mount& mount) {
        return mount.device == device;
    });
    std::ranges::stable_sort(result, comes_first);
    return result;
}

// Where the reserve is, or is to be: a mount that has it, else the one asked for; but not a single
// file or what a sandbox shows read-only, when there is another way in.
Mount choose_home(const std::vector<Mount>& same, const Mount& asked) {
    if (const auto found = std::ranges::find_if(same, has_reserve); found != same.end())
        return *found;
    const auto fits = [](const Mount& mount) { return !mount.read_only && open_mount(mount); };
    if (fits(asked)) return asked;
    const auto other = std::ranges::find_if(same, fits);
    return other != same.end() ? *other : asked;
}

Result<Volume> make_volume(const std::vector<Mount>& same, const Mount& asked) {
    const Mount home = choose_home(same, asked);
    THAW_TRY(const Fd root, open_mount(home));
    struct stat st{};
    if (fstat(root.get(), &st) < 0) return fail_errno(errno, "stat {}", home.point);
    Volume volume;
    volume.uuid = uuid_of(root.get(), home.type, home.source);
    volume.id = !volume.uuid.empty()
                    ? volume.uuid
                    : fmt::format("{}-{}-{}", home.type, major(home.device), minor(home.device));
    // A type such as "fuse.ext4" must not bring a dot into the id.
    for (char& c : volume.id)
        if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '-';
    volume.type = home.type;
    volume.mount_point = home.point;
    volume.source = home.source;
    for (const auto& mount : same)
        volume.mount_points.push_back(mount.point);
    volume.backing = backing_of(home.device, home.type, volume.uuid);
    volume.read_only = home.read_only;
    volume.has_reserve = has_reserve(home);
    volume.device = home.device;
    volume.root_device = st.st_dev;
    return volume;
}

Result<Volume> find_in(const std::vector<Mount>& mounts, const std::string& path) {
    THAW_TRY(const Fd fd, open_nearest(path));
    THAW_TRY(const auto id, mount_id_of(fd.get()));
    const auto asked = std::ranges::find(mounts, id, &Mount::id);
    if (asked == mounts.end()) return fail(ENOENT, "{}: its mount is not in mountinfo", path);
    THAW_TRY(Volume volume, make_volume(of_device(mounts, asked->device), *asked));
    volume.paths.push_back(path);
    return volume;
}

// A cloned disk: the same UUID on another device must not be taken for the same volume.
void make_ids_unique(std::vector<Volume>& volumes) {
    for (auto later = volumes.begin(); later != volumes.end(); ++later)
        if (std::any_of(volumes.begin(), later, [&](const Volume& earlier) {
                return earlier.id == later->id;
            }))
            later->id += fmt::format("-{}-{}", major(later->device), minor(later->device));
}

} // namespace

std::string Volume::directory() const {
    return (mount_point == "/" ? "" : mount_point) + "/" + kDirectory;
}

Result<Volume> find_volume(const std::string& path) {
    THAW_TRY(const auto mounts, read_mounts());
    return find_in(mounts, path);
}

FoundVolumes find_volumes(std::span<const std::string> paths) {
    FoundVolumes found;
    auto mounts = read_mounts();
    for (const auto& path : paths) {
        auto volume =
            mounts ? find_in(*mounts, path) : Result<Volume>(std::unexpected(mounts.error()));
        if (!volume) {
            found.problems.push_back({path, std::move(volume).error()});
            continue;
        }
        const auto known = std::ranges::find(found.volumes, volume->device, &Volume::device);
        if (known != found.volumes.end())
            known->paths.push_back(path);
        else
            found.volumes.push_back(std::move(*volume));
    }
    make_ids_unique(found.volumes);
    return found;
}

Result<std::vector<Volume>> find_reserves() {
    THAW_TRY(const auto mounts, read_mounts());
    std::vector<Volume> volumes;
    for (const auto& mount : mounts) {
        if (is_foreign(mount.type) ||
            std::ranges::find(volumes, mount.device, &Volume::device) != volumes.end() ||
            !has_reserve(mount))
            continue;
        // It was there a moment ago; one that went meanwhile is not an error of the others.
        if (auto volume = make_volume(of_device(mounts, mount.device), mount))
            volumes.push_back(std::move(*volume));
    }
    make_ids_unique(volumes);
    return volumes;
}

Result<Volume> pick_volume(std::span<const Volume> volumes, const std::string& text) {
    if (text.empty()) return fail(EINVAL, "no volume named");
    for (const auto& volume : volumes)
        if (volume.id == text || volume.uuid == text || volume.source == text ||
            std::ranges::find(volume.mount_points, text) != volume.mount_points.end())
            return volume;
    if (text.starts_with('/')) {
        THAW_TRY(const auto of_path, find_volume(text));
        const auto known = std::ranges::find(volumes, of_path.device, &Volume::device);
        if (known != volumes.end()) return *known;
    }
    return fail(ENOENT, "no volume '{}'", text);
}

} // namespace thaw::reserve
