// SPDX-License-Identifier: MIT
#include "overlay/stable_file.hpp"

#include "core/file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace thaw::rootfs {

namespace {

// A disk may ask for whole sectors, and for memory aligned to what its controller can address.
constexpr std::uint64_t kDirectUnit = kBlockSize;
constexpr std::uintptr_t kDirectMemory = 512;

bool direct_ready(const std::byte* data, std::uint64_t offset, std::uint64_t length) {
    return reinterpret_cast<std::uintptr_t>(data) % kDirectMemory == 0 &&
           offset % kDirectUnit == 0 && length % kDirectUnit == 0;
}

Result<> sync_data(int fd) {
    if (::fdatasync(fd) != 0) return fail_errno(errno, "fdatasync");
    return {};
}

Result<std::uint64_t> size_of(int fd) {
    struct stat info{};
    if (::fstat(fd, &info) != 0) return fail_errno(errno, "fstat");
    return static_cast<std::uint64_t>(info.st_size);
}

Result<> reserve_room(int fd, std::uint64_t length) {
    THAW_TRY(const auto size, size_of(fd));
    if (length <= size) return {};
    int failed = 0;
    do
        failed =
            ::fallocate(fd, 0, static_cast<off_t>(size), static_cast<off_t>(length - size)) != 0
                ? errno
                : 0;
    while (failed == EINTR);
    // A file system that reserves nothing tells of a full disk when it is written to.
    if (failed == EOPNOTSUPP && ::ftruncate(fd, static_cast<off_t>(length)) == 0) return {};
    if (failed != 0) return fail_errno(failed, "reserve {} bytes", length);
    return {};
}

void punch_hole(int fd, std::uint64_t offset, std::uint64_t length) {
    // Room that does not come back costs room, no more.
    static_cast<void>(::fallocate(
        fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
        static_cast<off_t>(length)
    ));
}

Result<Fd> open_locked(const std::string& path, int flags) {
    THAW_TRY(Fd fd, open_file(path, flags | O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
        return fail(EBUSY, "{} is in use by another process", path);
    return fd;
}

} // namespace

Result<> write_exact(int fd, std::span<const std::byte> data, std::uint64_t offset) {
    while (!data.empty()) {
        const ssize_t n = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(errno, "write at {}", offset);
        if (n == 0) return fail(EIO, "write at {}: nothing was taken", offset);
        data = data.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
    return {};
}

AlignedBuffer::AlignedBuffer(std::size_t size)
    : data_(static_cast<std::byte*>(std::aligned_alloc(kBlockSize, size))), size_(size) {
    if (!data_) throw std::bad_alloc();
}

void AlignedBuffer::Free::operator()(std::byte* data) const noexcept {
    std::free(data);
}

std::span<std::byte> bounce_buffer() {
    thread_local const AlignedBuffer buffer(kBounceSize);
    return buffer.span();
}

Result<std::unique_ptr<DirectFile>> DirectFile::temporary(const std::string& directory) {
    THAW_TRY(Fd fd, open_file(directory, O_TMPFILE | O_RDWR | O_DIRECT, 0600));
    return std::make_unique<DirectFile>(std::move(fd));
}

Result<std::unique_ptr<DirectFile>> DirectFile::named(const std::string& path) {
    THAW_TRY(Fd fd, open_locked(path, O_DIRECT));
    return std::make_unique<DirectFile>(std::move(fd));
}

Result<> DirectFile::read(std::uint64_t offset, std::span<std::byte> out) {
    if (direct_ready(out.data(), offset, out.size())) return pread_exact(fd_.get(), out, offset);
    const auto bounce = bounce_buffer();
    while (!out.empty()) {
        const std::uint64_t begin = offset / kDirectUnit * kDirectUnit;
        const std::uint64_t skip = offset - begin;
        const std::uint64_t take = std::min<std::uint64_t>(out.size(), bounce.size() - skip);
        const std::uint64_t whole = blocks_of(skip + take) * kDirectUnit;
        THAW_CHECK(pread_exact(fd_.get(), bounce.first(whole), begin));
        std::memcpy(out.data(), bounce.data() + skip, take);
        out = out.subspan(take);
        offset += take;
    }
    return {};
}

Result<> DirectFile::write(std::uint64_t offset, std::span<const std::byte> data) {
    if (direct_ready(data.data(), offset, data.size())) return write_exact(fd_.get(), data, offset);
    const auto bounce = bounce_buffer();
    while (!data.empty()) {
        const std::size_t take = std::min(data.size(), bounce.size());
        std::memcpy(bounce.data(), data.data(), take);
        THAW_CHECK(write_exact(fd_.get(), bounce.first(take), offset));
        data = data.subspan(take);
        offset += take;
    }
    return {};
}

Result<> DirectFile::sync() {
    return sync_data(fd_.get());
}
Result<> DirectFile::reserve(std::uint64_t length) {
    return reserve_room(fd_.get(), length);
}
void DirectFile::punch(std::uint64_t offset, std::uint64_t length) {
    punch_hole(fd_.get(), offset, length);
}
Result<std::uint64_t> DirectFile::size() {
    return size_of(fd_.get());
}

Result<std::unique_ptr<CachedFile>> CachedFile::named(const std::string& path) {
    THAW_TRY(Fd fd, open_locked(path, 0));
    return std::make_unique<CachedFile>(std::move(fd));
}

Result<> CachedFile::read(std::uint64_t offset, std::span<std::byte> out) {
    return pread_exact(fd_.get(), out, offset);
}
Result<> CachedFile::write(std::uint64_t offset, std::span<const std::byte> data) {
    return write_exact(fd_.get(), data, offset);
}
Result<> CachedFile::sync() {
    return sync_data(fd_.get());
}
Result<> CachedFile::reserve(std::uint64_t length) {
    return reserve_room(fd_.get(), length);
}
void CachedFile::punch(std::uint64_t offset, std::uint64_t length) {
    punch_hole(fd_.get(), offset, length);
}
Result<std::uint64_t> CachedFile::size() {
    return size_of(fd_.get());
}

} // namespace thaw::rootfs
