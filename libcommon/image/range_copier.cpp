// SPDX-License-Identifier: MIT
#include "image/range_copier.hpp"

#include "core/file.hpp"

#include <unistd.h>

#include <algorithm>

namespace thaw::image {

namespace {

constexpr std::size_t kBuffer = 256 << 10; // stays in the CPU's cache between read, hash and write

bool means_unsupported(int error) {
    return error == EXDEV || error == EINVAL || error == EOPNOTSUPP || error == ENOSYS ||
           error == EPERM;
}

} // namespace

Result<> write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
    while (!bytes.empty()) {
        const auto n = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(errno, "write");
        if (n == 0) return fail(EIO, "write: nothing was taken");
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
    return {};
}

std::span<std::byte> RangeCopier::buffer(std::uint64_t length) {
    if (buffer_.empty()) buffer_.resize(kBuffer);
    return std::span(buffer_).first(std::min<std::uint64_t>(length, buffer_.size()));
}

// How much the kernel copied; 0 when it cannot.
Result<std::uint64_t>
RangeCopier::step(std::uint64_t from, std::uint64_t to, std::uint64_t length) {
    auto in = static_cast<off_t>(from);
    auto out = static_cast<off_t>(to);
    const auto n = copy_file_range(source_, &in, target_, &out, length, 0);
    if (n > 0) return static_cast<std::uint64_t>(n);
    if (n < 0 && errno == EINTR) return step(from, to, length);
    // 0 is the end of the file, or a file system that has no such call and does not say so: reading
    // tells them apart.
    if (n < 0 && !means_unsupported(errno)) return fail_errno(errno, "copy");
    in_kernel_ = false;
    return 0U;
}

Result<>
RangeCopier::by_hand(std::uint64_t from, std::uint64_t to, std::uint64_t length, const Seen& seen) {
    while (length > 0) {
        const auto part = buffer(length);
        THAW_CHECK(pread_exact(source_, part, from));
        if (seen) THAW_CHECK(seen(part));
        THAW_CHECK(write_at(target_, part, to));
        from += part.size();
        to += part.size();
        length -= part.size();
    }
    return {};
}

Result<>
RangeCopier::copy(std::uint64_t from, std::uint64_t to, std::uint64_t length, const Seen& seen) {
    while (length > 0 && in_kernel_) {
        THAW_TRY(const std::uint64_t n, step(from, to, length));
        for (std::uint64_t at = 0; seen && at < n;) {
            const auto part = buffer(n - at);
            THAW_CHECK(pread_exact(source_, part, from + at));
            THAW_CHECK(seen(part));
            at += part.size();
        }
        from += n;
        to += n;
        length -= n;
    }
    return by_hand(from, to, length, seen);
}

} // namespace thaw::image
