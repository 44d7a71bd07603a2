// SPDX-License-Identifier: MIT
#pragma once

// The bytes of an image's memory file.
//
// With checking on, bytes are read into a private buffer, compared with their checksums there, and
// installed from that very buffer. With checking off they are installed straight from a mapping,
// which this code itself never touches: the kernel answers EFAULT where a file is too short or a
// sector is bad, and read() then says which it was.

#include "cache_belief.hpp"
#include "chunk_gate.hpp"
#include "core/error.hpp"
#include "core/fd.hpp"
#include "image/layers.hpp"
#include "image/map_reader.hpp"
#include "protocol/session_layout.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace thaw::worker {

// Why bytes are not to be had.
struct SourceError {
    protocol::FailureReason reason = protocol::FailureReason::None;
    int errno_value = 0;
};

// The files of an image; the descriptors stay the caller's.
struct SourceFiles {
    int memory = -1;
    int map = -1; // -1: no map, so no zero runs and no checks
    // Of an image that is a difference: its table of layers, and the memory files of the images
    // below, nearest first. Its map covers the whole memory all the same.
    int layers = -1;
    std::vector<int> bases{};
};

class PageSource {
public:
    struct Options {
        std::uint64_t memory_size = 0;
        std::uint64_t largest_page = protocol::kBitPage; // the most that is loaded at once
        bool checked = true; // false: only the zero runs of the map count
    };
    // EBADMSG for damage, ESTALE for files of another image.
    static Result<PageSource>
    open(const SourceFiles& files, const image::ImageId& image, const Options& options);
    PageSource(PageSource&& other) noexcept;
    PageSource& operator=(PageSource&&) = delete;
    PageSource(const PageSource&) = delete;
    PageSource& operator=(const PageSource&) = delete;
    ~PageSource();

    // Of a remote image: its memory is read through `gate` alone, which outlives this, and checked
    // whatever the options said.
    void read_through(ChunkGate& gate);
    bool is_gated(int fd) const { return gate_ != nullptr && fd == files_.front().fd; }
    // With checking off: maps the file, so that direct() has something to offer. A file that cannot
    // be mapped is read instead.
    void map_when_unchecked();

    bool is_zero(std::uint64_t offset, std::uint64_t length) const;
    // Pages (4 KiB) from `page` on, at most `limit`, of the same kind as it is: zero or data.
    std::uint64_t run_length(std::uint64_t page, std::uint64_t limit) const;
    // A pointer for UFFDIO_COPY only, nullptr when bytes must be read: no mapping, or the page
    // cache does not have them, so that the kernel would wait for the disk inside the ioctl. Looks,
    // or believes that it has them (cache_belief.hpp).
    const std::byte* direct(std::uint64_t offset, std::uint64_t length);
    // A fill from direct() took long: was it a disk?
    void direct_was_slow();
    // There is a mapping, and the page cache has the first and the last page.
    bool is_mapping_at_hand(std::uint64_t offset, std::uint64_t length) const;
    // direct() without a look; what is_mapping_at_hand() said holds a while.
    const std::byte* mapping_at(std::uint64_t offset) const { return mapping_ + offset; }
    // Reads and checks what is at hand; nullopt when a disk would have to be waited for (then read
    // it otherwise and check() it). The bytes are good until the next call. `length` <=
    // largest_page.
    std::expected<std::optional<std::span<const std::byte>>, SourceError>
    load_now(std::uint64_t offset, std::uint64_t length);
    // Whether bytes that were read at `offset` are those of the image. A list of page hashes that
    // is not at hand is named in `missing`, and the answer is open: read it, add_list() it, ask
    // again.
    std::optional<SourceError> check(
        std::uint64_t offset, std::span<const std::byte> bytes,
        std::optional<image::MapReader::ListPlace>& missing
    );
    std::optional<SourceError>
    add_list(const image::MapReader::ListPlace& place, std::span<const std::byte> bytes);
    void count_read(std::uint64_t bytes) { bytes_read_ += bytes; }

    // Where bytes of the memory stand: in which file, at the same offset, and how many of
    // `length` in a row.
    struct Place {
        int fd = -1;
        std::uint64_t length = 0;
    };
    Place place(std::uint64_t offset, std::uint64_t length) const {
        const auto [file, bytes] = file_of(offset, length);
        return {files_[file].fd, gate_ == nullptr ? bytes : ChunkGate::limit(offset, bytes)};
    }
    bool is_at_hand(std::uint64_t offset) const;
    int map_fd() const { return map_ == nullptr ? -1 : map_->fd(); }
    bool is_checked() const { return options_.checked; }
    // Of the memory.map; 0 without one.
    std::uint64_t map_checksum() const { return map_ == nullptr ? 0 : map_->checksum(); }
    std::uint64_t memory_size() const { return options_.memory_size; }
    // As many zeros as the largest page has.
    const std::byte* zeros() const { return zeros_; }

    std::uint64_t bytes_read() const { return bytes_read_; }
    std::uint64_t pages_checked() const { return pages_checked_; }

private:
    struct File {
        int fd = -1;
        image::NowaitRead reader;
    };
    PageSource() = default;
    Result<> open_layers(const SourceFiles& files, const image::ImageId& image);
    std::pair<std::size_t, std::uint64_t> file_of(std::uint64_t offset, std::uint64_t length) const;
    std::vector<File> files_;                   // the image's own, then those of the images below
    std::unique_ptr<image::LayerTable> layers_; // none: the first file has everything
    Options options_;
    ChunkGate* gate_ = nullptr;             // remote images only
    std::unique_ptr<image::MapReader> map_; // none: no zero runs, no checks
    std::byte* buffer_ = nullptr;           // private, largest_page bytes
    const std::byte* zeros_ = nullptr; // never written: the kernel's one zero page stands behind it
    const std::byte* mapping_ = nullptr; // unchecked only
    CacheBelief belief_;
    long major_faults_ = 0; // of this thread, when last looked at
    std::uint64_t bytes_read_ = 0;
    std::uint64_t pages_checked_ = 0;
};

} // namespace thaw::worker
