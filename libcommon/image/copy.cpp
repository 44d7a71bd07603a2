// SPDX-License-Identifier: MIT

#include "image/copy.hpp"

#include "core/file.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace thaw::image {

namespace {

// One step: bounds how long a cancellation waits.
constexpr std::uint64_t kStep = 16 << 20;
constexpr std::size_t kBuffer = 1 << 20;

struct Extent {
    std::uint64_t start;
    std::uint64_t end;
};

// The next data at or after `from`; start == total when there is none. A file system without
// SEEK_DATA has data everywhere.
Result<Extent> next_data(int fd, std::uint64_t from, std::uint64_t total) {
    const auto start = lseek(fd, static_cast<off_t>(from), SEEK_DATA);
    if (start < 0 && errno == ENXIO) return Extent{total, total};
    if (start < 0 && errno == EINVAL) return Extent{from, total};
    if (start < 0) return fail_errno(errno, "find data");
    const auto end = lseek(fd, start, SEEK_HOLE);
    if (end < 0) return fail_errno(errno, "find hole");
    return Extent{
        std::min<std::uint64_t>(static_cast<std::uint64_t>(start), total),
        std::min<std::uint64_t>(static_cast<std::uint64_t>(end), total)
    };
}

bool means_unsupported(int error) {
    return error == EXDEV || error == EINVAL || error == EOPNOTSUPP || error == ENOSYS ||
           error == EPERM;
}

class Copier {
public:
    Copier(int source, int target) : source_(source), target_(target) {}

    // At most `count` bytes at `offset`; how many.
    Result<std::uint64_t> step(std::uint64_t offset, std::uint64_t count) {
        if (in_kernel_) {
            auto in = static_cast<off_t>(offset);
            auto out = static_cast<off_t>(offset);
            const auto n = copy_file_range(source_, &in, target_, &out, count, 0);
            if (n > 0) return static_cast<std::uint64_t>(n);
            // 0 is the end of the file, or a file system that has no such call and does not say so.
            if (n < 0 && !means_unsupported(errno)) return fail_errno(errno, "copy");
            in_kernel_ = false;
        }
        return through_buffer(offset, count);
    }

private:
    Result<std::uint64_t> through_buffer(std::uint64_t offset, std::uint64_t count) {
        if (buffer_.empty()) buffer_.resize(kBuffer);
        const auto part = std::span(buffer_).first(std::min<std::uint64_t>(count, buffer_.size()));
        THAW_CHECK(pread_exact(source_, part, offset));
        for (std::size_t at = 0; at < part.size();) {
            const auto n =
                pwrite(target_, &part[at], part.size() - at, static_cast<off_t>(offset + at));
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return fail_errno(errno, "write");
            at += static_cast<std::size_t>(n);
        }
        return part.size();
    }

    int source_;
    int target_;
    bool in_kernel_ = true;
    std::vector<std::byte> buffer_;
};

} // namespace

Result<> copy_file(
    int source, int target, const std::function<bool(std::uint64_t, std::uint64_t)>& progress
) {
    struct stat st{};
    if (fstat(source, &st) < 0) return fail_errno(errno, "stat");
    const auto total = static_cast<std::uint64_t>(st.st_size);
    const auto tell = [&](std::uint64_t done) { return !progress || progress(done, total); };
    if (!tell(0)) return fail(ECANCELED, "canceled");

    if (ioctl(target, FICLONE, source) < 0) {
        if (ftruncate(target, static_cast<off_t>(total)) < 0) return fail_errno(errno, "set size");
        Copier copier(source, target);
        for (std::uint64_t at = 0; at < total;) {
            THAW_TRY(const auto data, next_data(source, at, total));
            for (at = data.start; at < data.end;) {
                THAW_TRY(const auto n, copier.step(at, std::min(kStep, data.end - at)));
                at += n;
                if (!tell(at)) return fail(ECANCELED, "canceled");
            }
        }
    }
    if (!tell(total)) return fail(ECANCELED, "canceled");
    return {};
}

} // namespace thaw::image
