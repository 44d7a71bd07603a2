// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "image/layers.hpp"
#include "target.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

using namespace thaw;

namespace {

// Puts counts and checksum right where that is possible: no input would get past them otherwise.
void mend(std::vector<std::byte>& bytes) {
    image::LayerHeader header;
    if (bytes.size() < sizeof header) return;
    std::memcpy(&header, bytes.data(), sizeof header);
    header.layer_count = 2 + header.layer_count % (image::kMaxLayers - 1);
    header.page_count %= 1 << 16;
    std::vector<image::ImageId> ids(header.layer_count);
    const std::size_t rest = bytes.size() - sizeof header;
    if (rest < ids.size() * sizeof ids[0]) return;
    std::vector<image::LayerRun> runs(
        (rest - ids.size() * sizeof ids[0]) / sizeof(image::LayerRun)
    );
    header.run_count = runs.size();
    bytes.resize(sizeof header + ids.size() * sizeof ids[0] + runs.size() * sizeof runs[0]);
    const auto* from = bytes.data() + sizeof header;
    std::memcpy(ids.data(), from, ids.size() * sizeof ids[0]);
    if (!runs.empty())
        std::memcpy(runs.data(), from + ids.size() * sizeof ids[0], runs.size() * sizeof runs[0]);
    header.checksum = image::layers_checksum(header, ids, runs);
    std::memcpy(bytes.data(), &header, sizeof header);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span(data, size));
    std::vector<std::byte> bytes(input.begin(), input.end());
    if (size % 2 == 0) mend(bytes);
    const Fd file(memfd_create("layers", MFD_CLOEXEC));
    if (!file || !write_all(file.get(), bytes)) return 0;
    image::ImageId id = {};
    if (size >= sizeof(image::LayerHeader)) std::memcpy(&id, data + 16, sizeof id);
    const auto table = image::LayerTable::load(file.get(), id);
    if (!table) return 0;
    fuzz::require(table->layer_count() >= 2 && table->layer_count() <= image::kMaxLayers);
    std::uint64_t page = 0;
    for (std::size_t runs = 0; page < table->page_count(); ++runs) {
        const auto place = table->find(page);
        fuzz::require(place.layer < table->layer_count() && place.pages > 0);
        fuzz::require(runs < table->runs().size());
        page += place.pages;
    }
    fuzz::require(page == table->page_count());
    fuzz::require(table->own_pages() <= page);
    return 0;
}
