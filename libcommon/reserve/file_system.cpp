// SPDX-License-Identifier: MIT
#include "reserve/file_system.hpp"

#include "core/kernel_compat.hpp"
#include "core/text.hpp"
#include "reserve/retry.hpp"

#include <blkid/blkid.h>

#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cstring>
#include <memory>
#include <tuple>

namespace thaw::reserve {

namespace {

constexpr std::size_t kUuidBytes = 16;
using UuidBytes = std::array<unsigned char, kUuidBytes>;

std::string uuid_text(const UuidBytes& bytes) {
    if (bytes == UuidBytes{}) return {};
    auto text = hex_encode(bytes.data(), bytes.size());
    for (const std::size_t dash : {20, 16, 12, 8})
        text.insert(dash, 1, '-');
    return text;
}

std::string btrfs_uuid(int fd) {
    btrfs_ioctl_fs_info_args info{};
    UuidBytes bytes{};
    if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0) return {};
    std::memcpy(bytes.data(), info.fsid, bytes.size());
    return uuid_text(bytes);
}

std::string ext4_uuid(int fd) {
    struct {
        Ext4UuidHeader header{.length = kUuidBytes, .flags = 0};
        UuidBytes bytes{};
    } request;
    return ioctl(fd, kExt4IocGetFsUuid, &request) < 0 ? "" : uuid_text(request.bytes);
}

std::string xfs_uuid(int fd) {
    XfsGeometry geometry{};
    UuidBytes bytes{};
    if (ioctl(fd, kXfsIocFsGeometry, &geometry) < 0) return {};
    std::memcpy(bytes.data(), geometry.uuid, bytes.size());
    return uuid_text(bytes);
}

std::string any_uuid(int fd) {
    FsUuid2 answer{};
    UuidBytes bytes{};
    if (ioctl(fd, kFsIocGetFsUuid, &answer) < 0 || answer.length > bytes.size()) return {};
    std::memcpy(bytes.data(), answer.uuid, answer.length);
    return uuid_text(bytes);
}

std::string device_uuid(const std::string& source) {
    if (!source.starts_with("/dev/")) return {};
    const std::unique_ptr<blkid_struct_probe, void (*)(blkid_probe)> device(
        blkid_new_probe_from_filename(source.c_str()), blkid_free_probe
    );
    const char* value = nullptr;
    if (!device || blkid_do_safeprobe(device.get()) != 0 ||
        blkid_probe_lookup_value(device.get(), "UUID", &value, nullptr) != 0)
        return {};
    // It becomes part of ids: nothing but what UUIDs are made of.
    std::string text;
    for (const unsigned char c : std::string_view(value))
        if (std::isalnum(c) != 0 || c == '-') text += static_cast<char>(std::tolower(c));
    return text;
}

// A kernel or a sandbox that makes no subvolumes. Anything else (no room, read-only) would fail for
// a directory as well, or leave one where a subvolume belongs.
bool lacks_subvolumes(int error) {
    return error == EPERM || error == EACCES || error == ENOTTY || error == EOPNOTSUPP ||
           error == EINVAL;
}

} // namespace

std::string uuid_of(int fd, const std::string& type, const std::string& source) {
    std::string uuid;
    if (type == "btrfs") uuid = btrfs_uuid(fd);
    if (type.starts_with("ext")) uuid = ext4_uuid(fd);
    if (type == "xfs") uuid = xfs_uuid(fd);
    if (uuid.empty()) uuid = any_uuid(fd);
    if (uuid.empty()) uuid = device_uuid(source);
    return uuid;
}

Result<> make_reserve_directory(int parent, const char* name, const std::string& type) {
    if (type == "btrfs") {
        btrfs_ioctl_vol_args request{};
        std::strncpy(request.name, name, sizeof(request.name) - 1);
        if (retry([&] { return ioctl(parent, BTRFS_IOC_SUBVOL_CREATE, &request); }) == 0) return {};
        if (!lacks_subvolumes(errno)) return fail_errno(errno, "make subvolume {}", name);
    }
    if (retry([&] { return mkdirat(parent, name, 0755); }) < 0)
        return fail_errno(errno, "make {}", name);
    return {};
}

bool is_plain_directory_of_btrfs(int directory, const std::string& type) {
    struct stat st{};
    return type == "btrfs" && fstat(directory, &st) == 0 && st.st_ino != BTRFS_FIRST_FREE_OBJECTID;
}

void set_no_copy_on_write(int directory, const std::string& type) {
    int flags = 0;
    if (type != "btrfs" || ioctl(directory, FS_IOC_GETFLAGS, &flags) < 0) return;
    flags |= FS_NOCOW_FL;
    std::ignore = ioctl(directory, FS_IOC_SETFLAGS, &flags);
}

bool frees_at_commit(const std::string& type) {
    return type == "btrfs" || type == "zfs" || type == "bcachefs";
}

Result<std::uint64_t> trim(int fd) {
    fstrim_range range{.start = 0, .len = UINT64_MAX, .minlen = 0};
    // What was freed in a transaction that is still open is not trimmed (ext4).
    if (retry([&] { return syncfs(fd); }) < 0) return fail_errno(errno, "syncfs");
    if (ioctl(fd, FITRIM, &range) < 0) return fail_errno(errno, "trim");
    return range.len;
}

} // namespace thaw::reserve
