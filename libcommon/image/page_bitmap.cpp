// SPDX-License-Identifier: MIT
#include "image/page_bitmap.hpp"

#include "core/file.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace thaw::image {

Result<PageBitmap> PageBitmap::decode(std::span<const std::byte> bytes, std::uint64_t pages) {
    if (bytes.size() != encoded_size(pages))
        return fail(
            EBADMSG, "page bitmap: {} bytes where {} pages need {}", bytes.size(), pages,
            encoded_size(pages)
        );
    PageBitmap bitmap(pages);
    if (!bytes.empty()) std::memcpy(bitmap.words_.data(), bytes.data(), bytes.size());
    if (pages % 64 != 0 && bitmap.words_.back() >> (pages % 64) != 0)
        return fail(EBADMSG, "page bitmap: names pages beyond the memory's {}", pages);
    return bitmap;
}

Result<PageBitmap> PageBitmap::load(int fd, std::uint64_t pages) {
    struct stat st{};
    if (::fstat(fd, &st) != 0) return fail_errno(errno, "page bitmap: stat");
    if (static_cast<std::uint64_t>(st.st_size) != encoded_size(pages))
        return fail(
            EBADMSG, "page bitmap: {} bytes where {} pages need {}", st.st_size, pages,
            encoded_size(pages)
        );
    std::vector<std::byte> bytes(encoded_size(pages));
    THAW_CHECK(pread_exact(fd, bytes, 0));
    return decode(bytes, pages);
}

std::uint64_t PageBitmap::run_length(std::uint64_t page) const {
    const bool in = test(page);
    const std::uint64_t first = page;
    while (page < pages_) {
        // Ones where the run ends.
        const std::uint64_t ends = (in ? ~words_[page / 64] : words_[page / 64]) >> (page % 64);
        if (ends != 0) {
            page += static_cast<std::uint64_t>(std::countr_zero(ends));
            break;
        }
        page += 64 - page % 64;
    }
    return std::min(page, pages_) - first;
}

std::uint64_t PageBitmap::count() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t word : words_)
        sum += static_cast<std::uint64_t>(std::popcount(word));
    return sum;
}

void PageBitmap::widen(std::uint64_t group) {
    for (std::uint64_t first = 0; first < pages_; first += group) {
        const std::uint64_t end = std::min(first + group, pages_);
        const bool any = test(first) || first + run_length(first) < end;
        for (std::uint64_t page = first; any && page < end; ++page)
            set(page);
    }
}

} // namespace thaw::image
