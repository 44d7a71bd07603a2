// SPDX-License-Identifier: MIT
#pragma once

// A set of 4 KiB pages: one bit each, page 0 the lowest bit of the first byte, in 64-bit words. As
// a file it is those words and nothing else. Not thread-safe.

#include "core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace thaw::image {

class PageBitmap {
public:
    PageBitmap() = default;
    explicit PageBitmap(std::uint64_t pages) : pages_(pages), words_((pages + 63) / 64) {}

    // `bytes` must be as many as `pages` need, with no bit beyond the last page: EBADMSG.
    static Result<PageBitmap> decode(std::span<const std::byte> bytes, std::uint64_t pages);
    // A whole file, read at its beginning.
    static Result<PageBitmap> load(int fd, std::uint64_t pages);
    static std::size_t encoded_size(std::uint64_t pages) { return (pages + 63) / 64 * 8; }

    std::uint64_t pages() const { return pages_; }
    std::span<const std::uint64_t> words() const { return words_; }
    bool test(std::uint64_t page) const { return (words_[page / 64] >> (page % 64) & 1) != 0; }
    void set(std::uint64_t page) { words_[page / 64] |= std::uint64_t{1} << page % 64; }
    // Pages from `page` on that are all in the set, or all out of it, as `page` is. `page` <
    // pages().
    std::uint64_t run_length(std::uint64_t page) const;
    std::uint64_t count() const;
    // Every page of which a group of `group` pages has one: a page of the guest's mapping that is
    // larger than 4 KiB is in the set as a whole or not at all.
    void widen(std::uint64_t group);

private:
    std::uint64_t pages_ = 0;
    std::vector<std::uint64_t> words_;
};

} // namespace thaw::image
