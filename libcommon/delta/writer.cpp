// SPDX-License-Identifier: MIT
#include "delta/writer.hpp"

#include "core/file.hpp"
#include "delta/check_stream.hpp"
#include "image/range_copier.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <map>

namespace thaw::delta {

namespace {

// Shorter runs cost less when they are gathered and written together.
constexpr std::uint64_t kKernelCopyMin = 64 << 10;
constexpr std::uint64_t kWriteStep = 16 << 20; // bounds how long a cancellation waits
constexpr std::size_t kGather = 256 << 10;
// So much is handed to the disk while the next is read: the fsync() at the end finds little left,
// and the page cache never fills with dirty pages of ours.
constexpr std::uint64_t kWriteBehind = 8 << 20;

class Packer {
public:
    Packer(int target, const Delta& delta, const Progress& progress)
        : target_(target), progress_(progress), checks_(delta.check_bytes), at_(delta.data_offset),
          begin_(delta.data_offset), synced_(delta.data_offset), total_(delta.data_bytes) {
        gathered_.reserve(kGather);
    }

    Result<> add(int source, std::uint64_t offset, std::uint64_t length) {
        while (length > 0) {
            const std::uint64_t part = std::min(length, kWriteStep);
            if (part >= kKernelCopyMin) {
                THAW_CHECK(copy(source, offset, part));
            } else {
                THAW_CHECK(gather(source, offset, part));
            }
            offset += part;
            length -= part;
            THAW_CHECK(tell());
        }
        return {};
    }
    Result<std::vector<std::uint64_t>> finish() {
        THAW_CHECK(flush());
        return checks_.finish();
    }

private:
    Result<> copy(int source, std::uint64_t offset, std::uint64_t length) {
        THAW_CHECK(flush());
        auto& copier = copiers_.try_emplace(source, source, target_).first->second;
        THAW_CHECK(copier.copy(
            offset, at_, length,
            [this](std::span<const std::byte> bytes) -> Result<> {
                checks_.feed(bytes);
                return {};
            }
        ));
        at_ += length;
        return {};
    }
    Result<> gather(int source, std::uint64_t offset, std::uint64_t length) {
        if (gathered_.size() + length > kGather) THAW_CHECK(flush());
        const std::size_t old = gathered_.size();
        gathered_.resize(old + length);
        return pread_exact(source, std::span(gathered_).subspan(old), offset);
    }
    Result<> flush() {
        checks_.feed(gathered_);
        THAW_CHECK(image::write_at(target_, gathered_, at_));
        at_ += gathered_.size();
        gathered_.clear();
        if (at_ - synced_ >= kWriteBehind) {
            // A hint: what cannot be written shows at fsync().
            sync_file_range(
                target_, static_cast<off_t>(synced_), static_cast<off_t>(at_ - synced_),
                SYNC_FILE_RANGE_WRITE
            );
            synced_ = at_;
        }
        return {};
    }
    Result<> tell() const {
        if (!progress_ || progress_(at_ - begin_ + gathered_.size(), total_)) return {};
        return fail(ECANCELED, "canceled");
    }

    int target_;
    const Progress& progress_;
    CheckStream checks_;
    std::map<int, image::RangeCopier> copiers_; // by source
    std::vector<std::byte> gathered_;           // belongs at at_
    std::uint64_t at_;
    std::uint64_t begin_;
    std::uint64_t synced_;
    std::uint64_t total_;
};

// Neighbours of one kind become one run, wherever their data come from.
std::vector<DeltaRun> runs_of(std::span<const SourceRun> sources) {
    std::vector<DeltaRun> runs;
    for (const auto& source : sources) {
        const RunKind kind = source.fd < 0 ? RunKind::Zero : RunKind::Data;
        if (!runs.empty()) {
            DeltaRun& last = runs.back();
            const bool neighbour =
                last.kind == kind && last.first_block + last.count == source.first_block;
            if (neighbour &&
                source.count <= std::numeric_limits<std::uint32_t>::max() - last.count) {
                last.count += source.count;
                continue;
            }
        }
        runs.push_back({.first_block = source.first_block, .count = source.count, .kind = kind});
    }
    return runs;
}

} // namespace

Result<Delta>
write_delta(int target, Delta what, std::span<const SourceRun> sources, const Progress& progress) {
    what.runs = runs_of(sources);
    THAW_CHECK(lay_out(what));
    if (progress && !progress(0, what.data_bytes)) return fail(ECANCELED, "canceled");
    // The size first: a file system without room for it, or a limit, says so before the work.
    if (ftruncate(target, static_cast<off_t>(what.data_offset + what.data_bytes)) < 0)
        return fail_errno(errno, "set the size");
    Packer packer(target, what, progress);
    for (const auto& source : sources) {
        if (source.fd < 0) continue;
        const DeltaRun run{.first_block = source.first_block, .count = source.count};
        THAW_CHECK(packer.add(source.fd, source.offset, what.bytes_of(run)));
    }
    THAW_TRY(what.checks, packer.finish());
    THAW_CHECK(image::write_at(target, encode_meta(what), 0));
    return what;
}

} // namespace thaw::delta
