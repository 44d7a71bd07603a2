// SPDX-License-Identifier: MIT

// image import, seal, verify: the long ones, with progress and Ctrl-C.

#include "core/file.hpp"
#include "exit_codes.hpp"
#include "guard_view.hpp"
#include "image/store.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "table.hpp"
#include "verbs.hpp"
#include "with_progress.hpp"

#include <fcntl.h>
#include <sys/stat.h>

namespace thaw::ctl {

namespace {

Result<image::Manifest> manifest_of(const ImageArguments& arguments) {
    image::Manifest manifest;
    THAW_TRY(manifest.page_size, parse_page_size(arguments.page_size));
    manifest.vmm = arguments.vmm;
    manifest.vmm_version = arguments.vmm_version;
    manifest.vsock_path = arguments.vsock_path;
    for (const auto& text : arguments.drives) {
        THAW_TRY(auto drive, parse_drive(text));
        manifest.drives.push_back(std::move(drive));
    }
    return manifest;
}

void print_warnings(const image::Store::Warnings& warnings) {
    for (const auto& warning : warnings)
        print_warning(warning);
}

// What an import will write: the sources as far as they are not holes, and the maps.
// Files that are moved within a file system are not written again.
std::uint64_t bytes_of_import(const ImageArguments& arguments) {
    constexpr std::uint64_t kBlock = 512;    // of st_blocks
    constexpr std::uint64_t kMapShare = 256; // a map is 1/512 of its file, and some lists
    struct stat root{};
    struct stat state{};
    struct stat memory{};
    struct stat rootfs{};
    if (::stat(arguments.root.c_str(), &root) != 0) return 0;
    // Missing sources are the import's own errors.
    if (::stat(arguments.state_path.c_str(), &state) != 0 ||
        ::stat(arguments.memory_path.c_str(), &memory) != 0)
        return 0;
    if (!arguments.rootfs_path.empty() && ::stat(arguments.rootfs_path.c_str(), &rootfs) != 0)
        return 0;
    auto bytes = static_cast<std::uint64_t>(memory.st_size + rootfs.st_size) / kMapShare;
    // Holes of a difference's source are not taken for pages; the rest is written again.
    if (!arguments.base.empty())
        return bytes + static_cast<std::uint64_t>(memory.st_blocks) * kBlock;
    for (const auto& source : {state, memory, rootfs})
        if (!arguments.move || source.st_dev != root.st_dev)
            bytes += static_cast<std::uint64_t>(source.st_blocks) * kBlock;
    return bytes;
}

Result<image::PageBitmap> load_pages(const ImageArguments& arguments, const image::Store& store) {
    THAW_TRY(const auto base, store.open(arguments.base));
    THAW_TRY(const auto file, open_file(arguments.pages_path, O_RDONLY | O_NOCTTY));
    auto pages =
        image::PageBitmap::load(file.get(), base.manifest.memory_size / image::kPageSize4K);
    if (!pages) return std::unexpected(std::move(pages).error().with_context(arguments.pages_path));
    return pages;
}

int report_sealed(
    std::string_view verb, const std::string& name, const image::Manifest& manifest,
    const OutputOptions& options
) {
    log_event(
        LogLevel::Info, message_id::kImageSealed, {{"THAW_IMAGE", name}}, "image {} sealed, id {}",
        name, image::format_id(manifest.id)
    );
    if (options.json != JsonMode::Off) {
        print_json(nlohmann::json::parse(image::format_manifest(manifest)), options.json);
        return kExitOk;
    }
    fmt::print(
        "{} image \"{}\": {} of memory, id {}.\n", verb, name, format_size(manifest.memory_size),
        image::format_id(manifest.id)
    );
    return kExitOk;
}

} // namespace

Result<int> verb_image_import(const ImageArguments& arguments, const OutputOptions& options) {
    image::Store::Source source;
    source.state_path = arguments.state_path;
    source.memory_path = arguments.memory_path;
    source.rootfs_path = arguments.rootfs_path;
    source.move = arguments.move;
    THAW_TRY(source.manifest, manifest_of(arguments));
    const image::Store store(arguments.root);
    image::Store::Warnings warnings;
    if (!arguments.base.empty()) {
        source.base = arguments.base;
        THAW_TRY(source.present, load_pages(arguments, store));
    }
    // Kept until the image is there.
    THAW_TRY(
        const auto lease,
        admit_work(
            arguments.root, bytes_of_import(arguments), "import of image " + arguments.name, options
        )
    );
    auto manifest = with_progress("Importing " + arguments.name, [&](const auto& progress) {
        return store.import(arguments.name, source, progress, &warnings);
    });
    if (!manifest) return std::unexpected(std::move(manifest).error());
    print_warnings(warnings);
    return report_sealed("Imported", arguments.name, *manifest, options);
}

Result<int> verb_image_seal(const ImageArguments& arguments, const OutputOptions& options) {
    THAW_TRY(auto given, manifest_of(arguments));
    const image::Store store(arguments.root);
    image::Store::Warnings warnings;
    // Names inside the image, where they are not the usual ones.
    given.state.name = arguments.state_path;
    given.memory.name = arguments.memory_path;
    if (!arguments.rootfs_path.empty()) given.rootfs.emplace().file.name = arguments.rootfs_path;
    auto manifest = with_progress("Sealing " + arguments.name, [&](const auto& progress) {
        return store.seal(arguments.name, given, progress, &warnings);
    });
    if (!manifest) return std::unexpected(std::move(manifest).error());
    print_warnings(warnings);
    return report_sealed("Sealed", arguments.name, *manifest, options);
}

Result<int> verb_image_verify(const ImageArguments& arguments, const OutputOptions& options) {
    const image::Store store(arguments.root);
    const auto verified = with_progress("Verifying " + arguments.name, [&](const auto& progress) {
        return store.verify(arguments.name, progress);
    });
    if (!verified && verified.error().code() == ECANCELED) return std::unexpected(verified.error());
    if (options.json != JsonMode::Off) {
        const std::string problem = verified ? "" : verified.error().message();
        print_json(
            {{"name", arguments.name}, {"valid", verified.has_value()}, {"problem", problem}},
            options.json
        );
    }
    if (!verified) return std::unexpected(verified.error());
    if (options.json == JsonMode::Off) fmt::print("Image \"{}\" is intact.\n", arguments.name);
    return kExitOk;
}

} // namespace thaw::ctl
