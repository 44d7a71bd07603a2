// SPDX-License-Identifier: MIT

#include "image/copy.hpp"

#include "image/range_copier.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace thaw::image {

namespace {

// One step: bounds how long a cancellation waits.
constexpr std::uint64_t kStep = 16 << 20;

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
        RangeCopier copier(source, target);
        for (std::uint64_t at = 0; at < total;) {
            THAW_TRY(const auto data, next_data(source, at, total));
            for (at = data.start; at < data.end;) {
                const std::uint64_t length = std::min(kStep, data.end - at);
                THAW_CHECK(copier.copy(at, at, length));
                at += length;
                if (!tell(at)) return fail(ECANCELED, "canceled");
            }
        }
    }
    if (!tell(total)) return fail(ECANCELED, "canceled");
    return {};
}

} // namespace thaw::image
