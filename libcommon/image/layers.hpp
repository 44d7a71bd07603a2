// SPDX-License-Identifier: MIT
#pragma once

// The file "layers" of an image that is a difference to another one (its base): for every 4 KiB
// page of the memory, which image of the chain holds it. Layer 0 is the image itself, layer 1 its
// base, layer 2 the base's base. It is what is believed: holes of a memory file mean nothing
// (copies fill them, file systems allocate in blocks larger than a page). In each layer's memory
// file a page stands at its place in the guest's memory, so all of them are equally long.
//
// Layout, little-endian: LayerHeader (64 bytes), layer_count ids (16 bytes each, the image's own
// first), run_count LayerRun. header.checksum covers all of it, itself taken as 0. Runs cover the
// memory without gaps; each ends where the next begins, and neighbours differ.

#include "image/manifest.hpp"
#include "image/page_bitmap.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace thaw::image {

inline constexpr std::uint32_t kLayersVersion = 1;
inline constexpr std::array<char, 8> kLayersMagic{'T', 'H', 'A', 'W', 'L', 'A', 'Y', '\n'};

struct LayerHeader {
    std::array<char, 8> magic = kLayersMagic;
    std::uint32_t version = kLayersVersion;
    std::uint32_t page_size = kPageSize4K;
    ImageId id{};
    std::uint64_t page_count = 0;
    std::uint32_t layer_count = 0; // 2 to kMaxLayers
    std::uint32_t reserved = 0;
    std::uint64_t run_count = 0;
    std::uint64_t checksum = 0;
};
static_assert(sizeof(LayerHeader) == 64);

struct LayerRun {
    std::uint64_t first_page = 0;
    std::uint64_t layer = 0;
};

// A loaded table, in private memory. Thread-safe.
class LayerTable {
public:
    // EBADMSG for damage, EPROTONOSUPPORT for an unknown version, ESTALE when `expected` is not the
    // id inside. Reads by pread(): the descriptor's offset stays.
    static Result<LayerTable> load(int fd, const ImageId& expected);

    std::uint64_t page_count() const { return page_count_; }
    std::size_t layer_count() const { return ids_.size(); }
    std::span<const ImageId> ids() const { return ids_; }
    std::span<const LayerRun> runs() const { return runs_; }

    struct Place {
        std::size_t layer = 0;
        std::uint64_t pages = 0; // from the page asked for on, that the same layer holds
    };
    // `page` < page_count(). O(log runs).
    Place find(std::uint64_t page) const;
    // Pages that the image holds itself.
    std::uint64_t own_pages() const;

private:
    std::uint64_t page_count_ = 0;
    std::vector<ImageId> ids_;
    std::vector<LayerRun> runs_;
};

// The bytes of the table of an image `id` that holds the pages of `present` itself and leaves the
// others to its base: `base_table` where that is a difference too, nullptr where it holds all of
// its memory. EOVERFLOW when the chain would have more than kMaxLayers layers.
Result<std::vector<std::byte>> build_layers(
    const ImageId& id, const ImageId& base, const LayerTable* base_table, const PageBitmap& present
);

// header.checksum of a table.
std::uint64_t
layers_checksum(LayerHeader header, std::span<const ImageId> ids, std::span<const LayerRun> runs);

} // namespace thaw::image
