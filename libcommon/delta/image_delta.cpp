// SPDX-License-Identifier: MIT
#include "delta/image_delta.hpp"

#include "core/file.hpp"
#include "delta/apply.hpp"
#include "image/memory_map.hpp"
#include "image/range_copier.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

namespace thaw::delta {

namespace {

using image::kMapPageSize;

// Runs of the pages that the image holds itself, split where zeros begin or end.
std::vector<SourceRun>
own_runs(const image::LayerTable& table, const image::MemoryMap& map, int memory) {
    constexpr std::uint64_t kLongest = std::numeric_limits<std::uint32_t>::max();
    std::vector<SourceRun> sources;
    for (std::uint64_t page = 0; page < table.page_count();) {
        const auto place = table.find(page);
        const std::uint64_t end = page + place.pages;
        if (place.layer != 0) {
            page = end;
            continue;
        }
        while (page < end) {
            const std::uint64_t count = map.run_length(page, std::min(end - page, kLongest));
            const bool zero = map.is_zero(page);
            sources.push_back(
                {.first_block = page,
                 .count = static_cast<std::uint32_t>(count),
                 .fd = zero ? -1 : memory,
                 .offset = zero ? 0 : page * kMapPageSize}
            );
            page += count;
        }
    }
    return sources;
}

image::PageBitmap pages_of(const Delta& delta) {
    image::PageBitmap pages(delta.geometry.blocks());
    for (const auto& run : delta.runs)
        for (std::uint32_t i = 0; i < run.count; ++i)
            pages.set(run.first_block + i);
    return pages;
}

// Without a name: gone with the descriptor.
Result<Fd> scratch_file(const std::string& folder) {
    return open_file(folder, O_TMPFILE | O_RDWR, 0600);
}

Result<> refuse_second(const image::Store& store, const image::ImageId& id) {
    THAW_TRY(const auto entries, store.list());
    for (const auto& entry : entries)
        if (entry.manifest && entry.manifest->id == id)
            return fail(EEXIST, "image '{}' is the one in the file: it has its id", entry.name);
    return {};
}

} // namespace

Result<Delta> export_image(const image::OpenImage& image, int target, const Progress& progress) {
    const image::Manifest& manifest = image.manifest;
    const auto& base = manifest.base;
    const auto& table = image.layer_table;
    if (!base || !table)
        return fail(EINVAL, "image '{}' is no difference to another one", image.name);
    if (!image.memory) return fail(EINVAL, "the memory of image '{}' is not here", image.name);
    THAW_TRY(const auto map, image::MemoryMap::load(image.memory_map.get(), manifest.id));
    THAW_TRY(const std::string state, read_fd(image.state.get(), kMaxState));
    const auto bytes = std::as_bytes(std::span(state));
    Delta what;
    what.kind = DeltaKind::Memory;
    what.geometry = {.size = manifest.memory_size, .block_size = kMapPageSize};
    what.base = {.form = BaseForm::Image, .size = manifest.memory_size, .id = base->id};
    what.id = manifest.id;
    what.created = manifest.created;
    what.notes = image::format_manifest(manifest);
    what.state.assign(bytes.begin(), bytes.end());
    return write_delta(
        target, std::move(what), own_runs(*table, map, image.memory.get()), progress
    );
}

Result<image::Manifest> image_manifest(const DeltaFile& file) {
    const Delta& delta = file.content();
    if (delta.kind != DeltaKind::Memory) return fail(EBADMSG, "the difference is of a disk");
    auto manifest = image::parse_manifest(delta.notes);
    if (!manifest) return std::unexpected(std::move(manifest).error().with_context("notes"));
    const auto& base = manifest->base;
    const bool fits = base && base->id == delta.base.id && delta.base.form == BaseForm::Image &&
                      manifest->id == delta.id && manifest->memory_size == delta.geometry.size &&
                      delta.geometry.block_size == kMapPageSize &&
                      manifest->state.size == delta.state.size();
    if (!fits) return fail(EBADMSG, "the manifest in it is not of this difference");
    return manifest;
}

Result<std::string> find_base(
    const image::Store& store, const image::Manifest& manifest, const std::string& preferred
) {
    const auto& base = manifest.base;
    if (!base) return fail(EINVAL, "the image is no difference to another one");
    const image::ImageId& id = base->id;
    THAW_TRY(const auto entries, store.list());
    std::string found;
    for (const auto& entry : entries) {
        const bool same = entry.manifest && entry.manifest->id == id;
        if (entry.name == preferred && !same)
            return fail(
                ESTALE, "image '{}' is another one than the base, whose id is {}", preferred,
                image::format_id(id)
            );
        if (same && (entry.name == preferred || found.empty() ||
                     (preferred.empty() && entry.name == base->name)))
            found = entry.name;
    }
    if (!preferred.empty() && found != preferred)
        return fail(ENOENT, "image '{}': no such image", preferred);
    if (found.empty())
        return fail(
            ENOENT, "no image here has the id of the base: {} ('{}' where it was exported)",
            image::format_id(id), base->name
        );
    return found;
}

Result<image::Manifest> import_image(
    const image::Store& store, const std::string& name, const DeltaFile& file,
    const std::string& base, const Progress& progress, image::Store::Warnings* warnings
) {
    THAW_TRY(const image::Manifest manifest, image_manifest(file));
    THAW_CHECK(refuse_second(store, manifest.id));
    const std::uint64_t unpacked = file.content().data_bytes;
    const auto told = [&](std::uint64_t before) {
        return [&progress, before, unpacked](std::uint64_t done, std::uint64_t total) {
            return !progress || progress(before + done, unpacked + std::max(total, unpacked));
        };
    };
    THAW_TRY(const Fd memory, scratch_file(store.root()));
    THAW_CHECK(apply_to_new(file, -1, memory.get(), told(0)));
    THAW_TRY(const Fd state, scratch_file(store.root()));
    THAW_CHECK(image::write_at(state.get(), file.content().state, 0));

    image::Store::Source source;
    source.state_fd = state.get();
    source.memory_fd = memory.get();
    source.manifest.id = manifest.id;
    source.manifest.vmm = manifest.vmm;
    source.manifest.vmm_version = manifest.vmm_version;
    source.manifest.page_size = manifest.page_size;
    source.manifest.drives = manifest.drives;
    source.manifest.vsock_path = manifest.vsock_path;
    source.base = base;
    source.base_id = file.content().base.id;
    source.present = pages_of(file.content());
    source.map_digest = manifest.memory_map.digest;
    source.state_digest = manifest.state.digest;
    return store.import(name, source, told(unpacked), warnings);
}

} // namespace thaw::delta
