// SPDX-License-Identifier: MIT
#pragma once

// Reads that never wait for a disk (RWF_NOWAIT). A file system that does not know them is asked
// the plain way when it lives in memory, and never when it does not.

#include "core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace thaw::image {

class NowaitRead {
public:
    NowaitRead() = default;
    explicit NowaitRead(int fd);

    // True: `target` is full. False: it would have to be waited for. ENODATA: the file ends before;
    // anything else is the error of the read.
    Result<bool> read(int fd, std::span<std::byte> target, std::uint64_t offset) const;
    // Whether the first and the last byte of a range are at hand: the kernel brings a file in by
    // more than a page at a time, so what lies between nearly always is as well.
    bool is_at_hand(int fd, std::uint64_t offset, std::uint64_t length) const;

private:
    enum class Way { Nowait, Plain, Never };
    Way way_ = Way::Never;
};

} // namespace thaw::image
