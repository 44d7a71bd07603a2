// SPDX-License-Identifier: MIT
// Nothing but what a pager's worker needs: it compiles this file for itself.
#include "image/layers.hpp"

#include "core/file.hpp"
#include "image/checksum.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace thaw::image {

namespace {

constexpr std::uint64_t kMaxLayerPages = std::uint64_t{1} << 34; // 64 TiB, as memory.map

Result<> check_header(const LayerHeader& header, const ImageId& expected, std::uint64_t size) {
    if (header.magic != kLayersMagic) return fail(EBADMSG, "layers: not a table of layers");
    if (header.version != kLayersVersion)
        return fail(EPROTONOSUPPORT, "layers: version {} is unknown", header.version);
    if (header.page_size != kPageSize4K || header.page_count == 0 ||
        header.page_count > kMaxLayerPages || header.layer_count < 2 ||
        header.layer_count > kMaxLayers || header.run_count == 0 ||
        header.run_count > header.page_count)
        return fail(EBADMSG, "layers: damaged header");
    const std::uint64_t wanted =
        sizeof header + header.layer_count * sizeof(ImageId) + header.run_count * sizeof(LayerRun);
    if (size != wanted)
        return fail(EBADMSG, "layers: {} bytes where its header says {}", size, wanted);
    if (header.id != expected) return fail(ESTALE, "layers: belongs to another image");
    return {};
}

bool runs_are_sound(std::span<const LayerRun> runs, const LayerHeader& header) {
    if (runs.front().first_page != 0 || runs.back().first_page >= header.page_count) return false;
    for (std::size_t i = 0; i < runs.size(); ++i) {
        if (runs[i].layer >= header.layer_count) return false;
        if (i == 0) continue;
        if (runs[i].first_page <= runs[i - 1].first_page || runs[i].layer == runs[i - 1].layer)
            return false;
    }
    return true;
}

bool ids_are_sound(std::span<const ImageId> ids, const ImageId& own) {
    for (std::size_t i = 1; i < ids.size(); ++i)
        if (std::ranges::find(ids.first(i), ids[i]) != ids.begin() + static_cast<std::ptrdiff_t>(i))
            return false;
    return ids.front() == own;
}

} // namespace

std::uint64_t
layers_checksum(LayerHeader header, std::span<const ImageId> ids, std::span<const LayerRun> runs) {
    header.checksum = 0;
    return checksum_of_parts(
        {std::as_bytes(std::span(&header, 1)), std::as_bytes(ids), std::as_bytes(runs)}
    );
}

Result<LayerTable> LayerTable::load(int fd, const ImageId& expected) {
    struct stat st{};
    if (::fstat(fd, &st) != 0) return fail_errno(errno, "layers: stat");
    const auto size = static_cast<std::uint64_t>(st.st_size);
    LayerHeader header;
    if (size < sizeof header) return fail(EBADMSG, "layers: truncated");
    THAW_CHECK(pread_exact(fd, std::as_writable_bytes(std::span(&header, 1)), 0));
    THAW_CHECK(check_header(header, expected, size));
    LayerTable table;
    table.page_count_ = header.page_count;
    table.ids_.resize(header.layer_count);
    table.runs_.resize(header.run_count);
    const auto ids = std::as_writable_bytes(std::span(table.ids_));
    THAW_CHECK(pread_exact(fd, ids, sizeof header));
    THAW_CHECK(
        pread_exact(fd, std::as_writable_bytes(std::span(table.runs_)), sizeof header + ids.size())
    );
    if (layers_checksum(header, table.ids_, table.runs_) != header.checksum)
        return fail(EBADMSG, "layers: damaged (checksum mismatch)");
    if (!runs_are_sound(table.runs_, header) || !ids_are_sound(table.ids_, header.id))
        return fail(EBADMSG, "layers: runs or ids do not hold together");
    return table;
}

LayerTable::Place LayerTable::find(std::uint64_t page) const {
    THAW_INVARIANT(page < page_count_);
    const auto after = std::ranges::upper_bound(runs_, page, {}, &LayerRun::first_page);
    const std::uint64_t end = after == runs_.end() ? page_count_ : after->first_page;
    return {.layer = std::prev(after)->layer, .pages = end - page};
}

std::uint64_t LayerTable::own_pages() const {
    std::uint64_t sum = 0;
    for (const auto& run : runs_)
        if (run.layer == 0) sum += find(run.first_page).pages;
    return sum;
}

} // namespace thaw::image
