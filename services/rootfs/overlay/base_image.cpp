// SPDX-License-Identifier: MIT
#include "overlay/base_image.hpp"

#include "core/file.hpp"
#include "image/checksum.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace thaw::rootfs {

Result<std::unique_ptr<FileBase>> FileBase::open(const std::string& path) {
    THAW_TRY(Fd fd, open_file(path, O_RDONLY));
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, "stat {}", path);
    auto size = static_cast<std::uint64_t>(info.st_size);
    if (S_ISBLK(info.st_mode)) {
        if (::ioctl(fd.get(), BLKGETSIZE64, &size) != 0)
            return fail_errno(errno, "size of {}", path);
    } else if (!S_ISREG(info.st_mode)) {
        return fail(EINVAL, "{} is neither a file nor a block device", path);
    }
    // Not the device number: another boot may give the file system another one.
    const std::array<std::uint64_t, 4> parts{
        static_cast<std::uint64_t>(info.st_ino), size,
        static_cast<std::uint64_t>(info.st_mtim.tv_sec),
        static_cast<std::uint64_t>(info.st_mtim.tv_nsec)
    };
    const auto tag = image::checksum_of_parts({std::as_bytes(std::span(parts))});
    return std::make_unique<FileBase>(std::move(fd), size, tag);
}

Result<protocol::BaseIdentity> FileBase::identity() const {
    return protocol::base_identity_of(fd_.get());
}

Result<> FileBase::read(std::uint64_t offset, std::span<std::byte> out) {
    return pread_exact(fd_.get(), out, offset);
}

BaseImage::Extent FileBase::extent(std::uint64_t offset, std::uint64_t length) {
    const auto begin = static_cast<off_t>(offset);
    const off_t data = ::lseek(fd_.get(), begin, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {.length = length, .hole = true};
    if (data < 0) return {.length = length, .hole = false}; // the file system does not tell
    if (data > begin)
        return {
            .length = std::min(length, static_cast<std::uint64_t>(data) - offset), .hole = true
        };
    const off_t hole = ::lseek(fd_.get(), begin, SEEK_HOLE);
    if (hole <= begin) return {.length = length, .hole = false};
    return {.length = std::min(length, static_cast<std::uint64_t>(hole) - offset), .hole = false};
}

} // namespace thaw::rootfs
