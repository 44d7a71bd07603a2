// SPDX-License-Identifier: MIT
#include "delta/apply.hpp"

#include "image/copy.hpp"
#include "image/range_copier.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace thaw::delta {

namespace {

constexpr std::size_t kZeros = 256 << 10;

// The part of `progress` from `before` on, of `all`.
Progress part_of(const Progress& progress, std::uint64_t before, std::uint64_t all) {
    return [&progress, before, all](std::uint64_t done, std::uint64_t) {
        return !progress || progress(before + done, all);
    };
}

// Where packed data belong: walks the data runs in step with it.
class Scatter {
public:
    Scatter(const Delta& delta, int target) : delta_(delta), target_(target) {}

    Result<> write(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            while (delta_.runs[run_].kind != RunKind::Data ||
                   inside_ == delta_.bytes_of(delta_.runs[run_])) {
                ++run_;
                inside_ = 0;
            }
            const DeltaRun& run = delta_.runs[run_];
            const auto part =
                bytes.first(std::min<std::uint64_t>(bytes.size(), delta_.bytes_of(run) - inside_));
            const std::uint64_t at = run.first_block * delta_.geometry.block_size + inside_;
            THAW_CHECK(image::write_at(target_, part, at));
            inside_ += part.size();
            bytes = bytes.subspan(part.size());
        }
        return {};
    }

private:
    const Delta& delta_;
    int target_;
    std::size_t run_ = 0;
    std::uint64_t inside_ = 0; // bytes of the run that are done
};

Result<> write_zeros(int target, std::uint64_t at, std::uint64_t length) {
    constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (fallocate(target, kPunch, static_cast<off_t>(at), static_cast<off_t>(length)) == 0)
        return {};
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
        return fail_errno(errno, "make a hole");
    const std::vector<std::byte> zeros(std::min<std::uint64_t>(kZeros, length));
    while (length > 0) {
        const auto part = std::span(zeros).first(std::min<std::uint64_t>(zeros.size(), length));
        THAW_CHECK(image::write_at(target, part, at));
        at += part.size();
        length -= part.size();
    }
    return {};
}

Result<> punch_zero_runs(const Delta& delta, int target) {
    for (const auto& run : delta.runs)
        if (run.kind == RunKind::Zero)
            THAW_CHECK(write_zeros(
                target, run.first_block * delta.geometry.block_size, delta.bytes_of(run)
            ));
    return {};
}

// Reflinks all data runs; false when one cannot be, which another way then writes. What a reflink
// cannot take (blocks smaller than the file system's) is for the other way, too.
bool reflink_runs(const DeltaFile& file, int target) {
    const Delta& delta = file.content();
    std::uint64_t at = delta.data_offset;
    for (const auto& run : delta.runs) {
        if (run.kind != RunKind::Data) continue;
        const file_clone_range range{
            .src_fd = file.fd(),
            .src_offset = at,
            .src_length = delta.bytes_of(run),
            .dest_offset = run.first_block * delta.geometry.block_size,
        };
        if (ioctl(target, FICLONERANGE, &range) < 0) return false;
        at += range.src_length;
    }
    return true;
}

Result<> set_size(const Delta& delta, int target) {
    if (ftruncate(target, static_cast<off_t>(delta.geometry.size)) < 0)
        return fail_errno(errno, "set the size");
    return {};
}

Result<> scatter(const DeltaFile& file, int target, const Progress& progress) {
    Scatter out(file.content(), target);
    return file.read_checked(
        [&](std::span<const std::byte> bytes, std::uint64_t) { return out.write(bytes); }, progress
    );
}

// Whether one block of the file can be a reflink in `target` (which it then is).
bool can_reflink(const DeltaFile& file, int target) {
    const Delta& delta = file.content();
    const auto first = std::ranges::find(delta.runs, RunKind::Data, &DeltaRun::kind);
    if (first == delta.runs.end() || delta.geometry.block_size % kDataAlignment != 0) return false;
    const file_clone_range range{
        .src_fd = file.fd(),
        .src_offset = delta.data_offset,
        .src_length = std::min<std::uint64_t>(delta.geometry.block_size, delta.bytes_of(*first)),
        .dest_offset = first->first_block * delta.geometry.block_size,
    };
    return ioctl(target, FICLONERANGE, &range) == 0;
}

} // namespace

Result<> apply_to_new(const DeltaFile& file, int base, int target, const Progress& progress) {
    const Delta& delta = file.content();
    const std::uint64_t below = base < 0 ? 0 : delta.base.size;
    const std::uint64_t all = below + delta.data_bytes;
    if (base >= 0) THAW_CHECK(image::copy_file(base, target, part_of(progress, 0, all)));
    THAW_CHECK(set_size(delta, target));
    const Progress rest = part_of(progress, below, all);
    // A reflink takes what is in the file: that is checked before it is used.
    if (can_reflink(file, target)) {
        THAW_CHECK(file.verify(rest));
        if (!reflink_runs(file, target)) THAW_CHECK(scatter(file, target, rest));
    } else {
        THAW_CHECK(scatter(file, target, rest));
    }
    return punch_zero_runs(delta, target);
}

Result<> apply_in_place(const DeltaFile& file, int target, const Progress& progress) {
    const Delta& delta = file.content();
    const std::uint64_t all = 2 * delta.data_bytes;
    THAW_CHECK(file.verify(part_of(progress, 0, all)));
    THAW_CHECK(set_size(delta, target));
    THAW_CHECK(scatter(file, target, part_of(progress, delta.data_bytes, all)));
    THAW_CHECK(punch_zero_runs(delta, target));
    if (fsync(target) < 0) return fail_errno(errno, "fsync");
    return {};
}

} // namespace thaw::delta
