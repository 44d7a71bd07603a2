// SPDX-License-Identifier: MIT
#pragma once

// The bytes of an image's memory file.
//
// With checking on, bytes are read into a private buffer, compared with their checksums there, and
// installed from that very buffer. With checking off they are installed straight from a mapping,
// which this code itself never touches: the kernel answers EFAULT where a file is too short or a
// sector is bad, and read() then says which it was.

#include "core/error.hpp"
#include "core/fd.hpp"
#include "map_reader.hpp"
#include "protocol/session_layout.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace thaw::worker {

// Why bytes are not to be had.
struct SourceError {
    protocol::FailureReason reason = protocol::FailureReason::None;
    int errno_value = 0;
};

class PageSource {
public:
    struct Options {
        std::uint64_t memory_size = 0;
        std::uint64_t largest_page = protocol::kBitPage; // the most that is loaded at once
        bool checked = true; // false: only the zero runs of the map count
    };
    // The descriptors stay the caller's. `map_fd` -1: no map, so no zero runs and no checks.
    static Result<PageSource>
    open(int memory_fd, int map_fd, const image::ImageId& image, const Options& options);
    PageSource(PageSource&& other) noexcept;
    PageSource& operator=(PageSource&&) = delete;
    PageSource(const PageSource&) = delete;
    PageSource& operator=(const PageSource&) = delete;
    ~PageSource();

    // With checking off: maps the file, so that direct() has something to offer. A file that cannot
    // be mapped is read instead.
    void map_when_unchecked();

    bool is_zero(std::uint64_t offset, std::uint64_t length) const;
    // A pointer for UFFDIO_COPY only, nullptr when bytes must be load()ed.
    const std::byte* direct(std::uint64_t offset) const;
    // Reads and checks. The bytes are good until the next call. `length` <= largest_page.
    std::expected<std::span<const std::byte>, SourceError>
    load(std::uint64_t offset, std::uint64_t length);
    // As many zeros as the largest page has.
    const std::byte* zeros() const { return zeros_; }

    std::uint64_t bytes_read() const { return bytes_read_; }
    std::uint64_t pages_checked() const { return pages_checked_; }

private:
    PageSource() = default;
    std::optional<SourceError> read_all(std::uint64_t offset, std::span<std::byte> target);
    std::optional<SourceError> check(std::uint64_t offset, std::span<const std::byte> bytes);

    int memory_fd_ = -1;
    Options options_;
    std::unique_ptr<MapReader> map_;   // none: no zero runs, no checks
    std::byte* buffer_ = nullptr;      // private, largest_page bytes
    const std::byte* zeros_ = nullptr; // never written: the kernel's one zero page stands behind it
    const std::byte* mapping_ = nullptr; // unchecked only
    std::uint64_t bytes_read_ = 0;
    std::uint64_t pages_checked_ = 0;
};

} // namespace thaw::worker
