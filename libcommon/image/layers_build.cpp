// SPDX-License-Identifier: MIT
#include "image/layers.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace thaw::image {

namespace {

void append_run(std::vector<LayerRun>& runs, std::uint64_t page, std::uint64_t layer) {
    if (runs.empty() || runs.back().layer != layer)
        runs.push_back({.first_page = page, .layer = layer});
}

template <class T>
void append(std::vector<std::byte>& out, std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    out.insert(out.end(), bytes.begin(), bytes.end());
}

} // namespace

Result<std::vector<std::byte>> build_layers(
    const ImageId& id, const ImageId& base, const LayerTable* base_table, const PageBitmap& present
) {
    std::vector<ImageId> ids{id};
    if (base_table == nullptr)
        ids.push_back(base);
    else
        ids.insert(ids.end(), base_table->ids().begin(), base_table->ids().end());
    if (ids.size() > kMaxLayers)
        return fail(
            EOVERFLOW, "the base is a difference to a difference already: more than {} layers",
            kMaxLayers
        );
    std::vector<LayerRun> runs;
    const std::uint64_t pages = present.pages();
    for (std::uint64_t page = 0; page < pages;) {
        const std::uint64_t run = present.run_length(page);
        if (present.test(page)) {
            append_run(runs, page, 0);
            page += run;
            continue;
        }
        for (const std::uint64_t end = page + run; page < end;) {
            const auto place =
                base_table == nullptr ? LayerTable::Place{0, pages} : base_table->find(page);
            append_run(runs, page, place.layer + 1);
            page += std::min(place.pages, end - page);
        }
    }
    LayerHeader header;
    header.id = id;
    header.page_count = pages;
    header.layer_count = static_cast<std::uint32_t>(ids.size());
    header.run_count = runs.size();
    header.checksum = layers_checksum(header, ids, runs);
    std::vector<std::byte> out;
    append(out, std::span<const LayerHeader>(&header, 1));
    append(out, std::span<const ImageId>(ids));
    append(out, std::span<const LayerRun>(runs));
    return out;
}

} // namespace thaw::image
