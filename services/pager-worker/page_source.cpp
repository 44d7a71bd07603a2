// SPDX-License-Identifier: MIT
#include "page_source.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace thaw::worker {

using protocol::FailureReason;

namespace {

Result<std::byte*> map_private(std::uint64_t size, int protection) {
    void* base = ::mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return fail_errno(errno, "map {} bytes", size);
    return static_cast<std::byte*>(base);
}

} // namespace

Result<PageSource>
PageSource::open(int memory_fd, int map_fd, const image::ImageId& image, const Options& options) {
    PageSource source;
    source.memory_fd_ = memory_fd;
    source.options_ = options;
    if (map_fd >= 0) {
        THAW_TRY(
            MapReader map, MapReader::open(map_fd, image, options.memory_size / image::kMapPageSize)
        );
        source.map_ = std::make_unique<MapReader>(std::move(map));
    }
    THAW_TRY(source.buffer_, map_private(options.largest_page, PROT_READ | PROT_WRITE));
    THAW_TRY(source.zeros_, map_private(options.largest_page, PROT_READ));
    source.options_.checked = options.checked && source.map_ != nullptr;
    return source;
}

void PageSource::map_when_unchecked() {
    if (options_.checked || mapping_ != nullptr) return;
    void* base = ::mmap(nullptr, options_.memory_size, PROT_READ, MAP_PRIVATE, memory_fd_, 0);
    if (base != MAP_FAILED) mapping_ = static_cast<const std::byte*>(base);
}

PageSource::PageSource(PageSource&& other) noexcept
    : memory_fd_(other.memory_fd_), options_(other.options_), map_(std::move(other.map_)),
      buffer_(std::exchange(other.buffer_, nullptr)), zeros_(std::exchange(other.zeros_, nullptr)),
      mapping_(std::exchange(other.mapping_, nullptr)), bytes_read_(other.bytes_read_),
      pages_checked_(other.pages_checked_) {}

PageSource::~PageSource() {
    const auto unmap = [](const std::byte* base, std::uint64_t size) {
        if (base != nullptr) ::munmap(const_cast<std::byte*>(base), size);
    };
    unmap(buffer_, options_.largest_page);
    unmap(zeros_, options_.largest_page);
    unmap(mapping_, options_.memory_size);
}

bool PageSource::is_zero(std::uint64_t offset, std::uint64_t length) const {
    return map_ != nullptr &&
           map_->is_zero(offset / image::kMapPageSize, length / image::kMapPageSize);
}

const std::byte* PageSource::direct(std::uint64_t offset) const {
    return mapping_ == nullptr ? nullptr : mapping_ + offset;
}

std::optional<SourceError> PageSource::read_all(std::uint64_t offset, std::span<std::byte> target) {
    std::size_t done = 0;
    while (done < target.size()) {
        const ssize_t got = ::pread(
            memory_fd_, target.data() + done, target.size() - done,
            static_cast<off_t>(offset + done)
        );
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return SourceError{FailureReason::SourceRead, errno};
        if (got == 0) return SourceError{FailureReason::SourceTruncated, ENODATA};
        done += static_cast<std::size_t>(got);
    }
    bytes_read_ += done;
    return std::nullopt;
}

std::optional<SourceError>
PageSource::check(std::uint64_t offset, std::span<const std::byte> bytes) {
    for (std::size_t at = 0; at < bytes.size(); at += image::kMapPageSize) {
        const auto expected = map_->page_hash((offset + at) / image::kMapPageSize);
        if (!expected) return SourceError{FailureReason::MapDamaged, expected.error().code()};
        ++pages_checked_;
        if (image::hash_page(bytes.data() + at) != *expected)
            return SourceError{FailureReason::Checksum, EBADMSG};
    }
    return std::nullopt;
}

std::expected<std::span<const std::byte>, SourceError>
PageSource::load(std::uint64_t offset, std::uint64_t length) {
    THAW_INVARIANT(length <= options_.largest_page && offset <= options_.memory_size - length);
    const std::span<std::byte> target(buffer_, length);
    if (const auto error = read_all(offset, target)) return std::unexpected(*error);
    if (options_.checked)
        if (const auto error = check(offset, target)) return std::unexpected(*error);
    return target;
}

} // namespace thaw::worker
