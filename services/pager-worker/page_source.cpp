// SPDX-License-Identifier: MIT
#include "page_source.hpp"

#include "protocol/worker_control.hpp"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
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

long major_faults() {
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_majflt;
}

} // namespace

Result<> PageSource::open_layers(const SourceFiles& files, const image::ImageId& image) {
    if (files.layers < 0) return {};
    THAW_TRY(auto table, image::LayerTable::load(files.layers, image));
    if (table.page_count() * image::kMapPageSize != options_.memory_size)
        return fail(EBADMSG, "the table of layers is for another memory size");
    if (table.layer_count() != files_.size())
        return fail(EBADMSG, "{} layers, but {} memory files", table.layer_count(), files_.size());
    layers_ = std::make_unique<image::LayerTable>(std::move(table));
    return {};
}

Result<PageSource>
PageSource::open(const SourceFiles& files, const image::ImageId& image, const Options& options) {
    static_assert(protocol::kMaxBases + 1 == image::kMaxLayers);
    PageSource source;
    source.options_ = options;
    source.files_.push_back({files.memory, image::NowaitRead(files.memory)});
    for (const int base : files.bases)
        source.files_.push_back({base, image::NowaitRead(base)});
    THAW_CHECK(source.open_layers(files, image));
    if (files.map >= 0) {
        THAW_TRY(
            image::MapReader map,
            image::MapReader::open(files.map, image, options.memory_size / image::kMapPageSize)
        );
        source.map_ = std::make_unique<image::MapReader>(std::move(map));
    }
    THAW_TRY(source.buffer_, map_private(options.largest_page, PROT_READ | PROT_WRITE));
    THAW_TRY(source.zeros_, map_private(options.largest_page, PROT_READ));
    source.options_.checked = options.checked && source.map_ != nullptr;
    return source;
}

void PageSource::read_through(ChunkGate& gate) {
    gate_ = &gate;
    options_.checked = map_ != nullptr;
}

void PageSource::map_when_unchecked() {
    // Layers are read: one mapping per run of pages would be many, and as much code again. A chunk
    // of a remote image may be taken away at any time.
    if (options_.checked || mapping_ != nullptr || layers_ || gate_ != nullptr) return;
    const int fd = files_.front().fd;
    void* base = ::mmap(nullptr, options_.memory_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (base != MAP_FAILED) mapping_ = static_cast<const std::byte*>(base);
}

PageSource::PageSource(PageSource&& other) noexcept
    : files_(std::move(other.files_)), layers_(std::move(other.layers_)), options_(other.options_),
      gate_(other.gate_), map_(std::move(other.map_)),
      buffer_(std::exchange(other.buffer_, nullptr)), zeros_(std::exchange(other.zeros_, nullptr)),
      mapping_(std::exchange(other.mapping_, nullptr)), belief_(other.belief_),
      major_faults_(other.major_faults_), bytes_read_(other.bytes_read_),
      pages_checked_(other.pages_checked_) {}

PageSource::~PageSource() {
    const auto unmap = [](const std::byte* base, std::uint64_t size) {
        if (base != nullptr) ::munmap(const_cast<std::byte*>(base), size);
    };
    unmap(buffer_, options_.largest_page);
    unmap(zeros_, options_.largest_page);
    unmap(mapping_, options_.memory_size);
}

std::pair<std::size_t, std::uint64_t>
PageSource::file_of(std::uint64_t offset, std::uint64_t length) const {
    if (!layers_) return {0, length};
    const auto place = layers_->find(offset / image::kMapPageSize);
    const std::uint64_t into = offset % image::kMapPageSize;
    return {place.layer, std::min(length, place.pages * image::kMapPageSize - into)};
}

bool PageSource::is_at_hand(std::uint64_t offset) const {
    if (gate_ != nullptr) return gate_->is_ready(offset, 1);
    const File& file = files_[file_of(offset, 1).first];
    return file.reader.is_at_hand(file.fd, offset, 1);
}

bool PageSource::is_zero(std::uint64_t offset, std::uint64_t length) const {
    return map_ != nullptr &&
           map_->is_zero(offset / image::kMapPageSize, length / image::kMapPageSize);
}

std::uint64_t PageSource::run_length(std::uint64_t page, std::uint64_t limit) const {
    return map_ == nullptr ? limit : map_->run_length(page, limit);
}

bool PageSource::is_mapping_at_hand(std::uint64_t offset, std::uint64_t length) const {
    const File& file = files_.front();
    return mapping_ != nullptr && file.reader.is_at_hand(file.fd, offset, length);
}

const std::byte* PageSource::direct(std::uint64_t offset, std::uint64_t length) {
    if (mapping_ == nullptr) return nullptr;
    if (!belief_.holds()) {
        const bool here = is_mapping_at_hand(offset, length);
        belief_.looked(here);
        if (!here) return nullptr;
        if (belief_.holds()) major_faults_ = major_faults();
    }
    return mapping_ + offset;
}

void PageSource::direct_was_slow() {
    if (!belief_.holds()) return;
    const long now = major_faults();
    if (now != major_faults_) belief_.surprised();
    major_faults_ = now;
}

std::optional<SourceError> PageSource::check(
    std::uint64_t offset, std::span<const std::byte> bytes,
    std::optional<image::MapReader::ListPlace>& missing
) {
    if (!options_.checked) return std::nullopt;
    for (std::size_t at = 0; at < bytes.size(); at += image::kMapPageSize) {
        const std::uint64_t page = (offset + at) / image::kMapPageSize;
        const auto expected = map_->page_hash(page);
        if (!expected && expected.error().code() == EAGAIN) {
            missing = map_->list_of_page(page);
            return std::nullopt;
        }
        if (!expected) return SourceError{FailureReason::MapDamaged, expected.error().code()};
        ++pages_checked_;
        if (image::hash_page(bytes.data() + at) != *expected)
            return SourceError{FailureReason::Checksum, EBADMSG};
    }
    return std::nullopt;
}

std::optional<SourceError>
PageSource::add_list(const image::MapReader::ListPlace& place, std::span<const std::byte> bytes) {
    const auto added = map_->add_list(place, bytes);
    if (added) return std::nullopt;
    return SourceError{FailureReason::MapDamaged, added.error().code()};
}

std::expected<std::optional<std::span<const std::byte>>, SourceError>
PageSource::load_now(std::uint64_t offset, std::uint64_t length) {
    using Loaded = std::optional<std::span<const std::byte>>;
    THAW_INVARIANT(length <= options_.largest_page && offset <= options_.memory_size - length);
    const std::span<std::byte> target(buffer_, length);
    if (options_.checked) map_->prefetch(offset / image::kMapPageSize);
    for (std::uint64_t done = 0; done < length;) { // more than once for a huge page of layers
        const auto [index, bytes] = file_of(offset + done, length - done);
        const File& file = files_[index];
        const auto part = target.subspan(done, bytes);
        const auto here = gate_ != nullptr ? gate_->try_read(offset + done, part)
                                           : file.reader.read(file.fd, part, offset + done);
        if (!here) {
            const int code = here.error().code();
            const auto reason =
                code == ENODATA ? FailureReason::SourceTruncated : FailureReason::SourceRead;
            return std::unexpected(SourceError{reason, code});
        }
        if (!*here) return Loaded();
        done += bytes;
    }
    bytes_read_ += length;
    std::optional<image::MapReader::ListPlace> missing;
    if (const auto error = check(offset, target, missing)) return std::unexpected(*error);
    if (missing) return Loaded(); // read once more, with its list
    return Loaded(target);
}

} // namespace thaw::worker
