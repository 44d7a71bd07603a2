// SPDX-License-Identifier: MIT

// image export-delta, import-delta: an image that is a difference, in one file.

#include "core/file.hpp"
#include "delta/image_delta.hpp"
#include "delta/output_file.hpp"
#include "exit_codes.hpp"
#include "guard_view.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "verbs.hpp"
#include "with_progress.hpp"

namespace thaw::ctl {

Result<int> verb_image_export_delta(const ImageArguments& arguments, const OutputOptions& options) {
    const image::Store store(arguments.root);
    THAW_TRY(const auto image, store.open(arguments.name));
    const auto existing = arguments.force ? delta::Existing::Replace : delta::Existing::Refuse;
    THAW_TRY(auto file, delta::OutputFile::create(arguments.delta_path, existing));
    const std::uint64_t pages = image.layer_table ? image.layer_table->own_pages() : 0;
    THAW_TRY(
        const auto lease,
        admit_work(
            folder_of(arguments.delta_path), pages * image::kPageSize4K + image.manifest.state.size,
            "export of image " + arguments.name, options
        )
    );
    auto written = with_progress("Exporting " + arguments.name, [&](const auto& progress) {
        return delta::export_image(image, file.fd(), progress);
    });
    if (!written) return std::unexpected(std::move(written).error());
    THAW_CHECK(file.publish());
    const std::string id = image::format_id(image.manifest.id);
    const auto base = image.manifest.base.value_or(image::BaseImage{}); // it has one
    const std::string base_id = image::format_id(base.id);
    if (options.json != JsonMode::Off) {
        print_json(
            {{"image", arguments.name},
             {"file", arguments.delta_path},
             {"id", id},
             {"base", {{"name", base.name}, {"id", base_id}}},
             {"data_pages", written->data_blocks},
             {"zero_pages", written->zero_blocks},
             {"file_bytes", written->data_offset + written->data_bytes}},
            options.json
        );
        return kExitOk;
    }
    fmt::print(
        "Exported image \"{}\" to {}: {} of memory over image {} (\"{}\").\n", arguments.name,
        arguments.delta_path, format_size(written->data_bytes), base_id, base.name
    );
    return kExitOk;
}

Result<int> verb_image_import_delta(const ImageArguments& arguments, const OutputOptions& options) {
    const image::Store store(arguments.root);
    THAW_TRY(const auto file, delta::DeltaFile::open(arguments.delta_path));
    auto described = delta::image_manifest(file);
    if (!described)
        return std::unexpected(std::move(described).error().with_context(arguments.delta_path));
    THAW_TRY(const std::string base, delta::find_base(store, *described, arguments.base));
    // Unpacked first, then taken over page by page.
    THAW_TRY(
        const auto lease,
        admit_work(
            arguments.root, 2 * file.content().data_bytes + described->memory_map.size,
            "import of image " + arguments.name, options
        )
    );
    image::Store::Warnings warnings;
    auto manifest = with_progress("Importing " + arguments.name, [&](const auto& progress) {
        return delta::import_image(store, arguments.name, file, base, progress, &warnings);
    });
    if (!manifest) return std::unexpected(std::move(manifest).error());
    for (const auto& warning : warnings)
        print_warning(warning);
    const std::string id = image::format_id(manifest->id);
    log_event(
        LogLevel::Info, message_id::kImageSealed, {{"THAW_IMAGE", arguments.name}},
        "image {} imported over {}, id {}", arguments.name, base, id
    );
    if (options.json != JsonMode::Off) {
        print_json(nlohmann::json::parse(image::format_manifest(*manifest)), options.json);
        return kExitOk;
    }
    fmt::print("Imported image \"{}\" over \"{}\", id {}.\n", arguments.name, base, id);
    return kExitOk;
}

} // namespace thaw::ctl
