// SPDX-License-Identifier: MIT
#pragma once

// Ranges of one file to places in another, by the cheapest way there is.

#include "core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace thaw::image {

class RangeCopier {
public:
    // Both descriptors are borrowed. The source is read with pread(), never through a mapping.
    RangeCopier(int source, int target) : source_(source), target_(target) {}

    // What was copied, in order; for checksums. Only valid during the call.
    using Seen = std::function<Result<>(std::span<const std::byte>)>;

    // Copies all of it: by copy_file_range() (a reflink where the file system has them) until that
    // turns out not to work for these files (memfd to ext4 is EXDEV), then by read and write. With
    // `seen`, bytes that the kernel copied are read from the source for it. A source that is too
    // short is EIO "truncated". Not bounded in time: pass pieces to be able to stop.
    Result<>
    copy(std::uint64_t from, std::uint64_t to, std::uint64_t length, const Seen& seen = nullptr);

    // Whether the kernel has done all of it so far.
    bool in_kernel() const { return in_kernel_; }

private:
    Result<std::uint64_t> step(std::uint64_t from, std::uint64_t to, std::uint64_t length);
    Result<> by_hand(std::uint64_t from, std::uint64_t to, std::uint64_t length, const Seen& seen);
    std::span<std::byte> buffer(std::uint64_t length);

    int source_;
    int target_;
    bool in_kernel_ = true;
    std::vector<std::byte> buffer_;
};

// All of `bytes` at `offset`. A write that takes nothing is EIO.
Result<> write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset);

} // namespace thaw::image
