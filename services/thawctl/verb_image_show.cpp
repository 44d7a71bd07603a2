// SPDX-License-Identifier: MIT

// image list, show, rm, clean.

#include "api/restore1.hpp"
#include "client.hpp"
#include "core/text.hpp"
#include "exit_codes.hpp"
#include "image/memory_map.hpp"
#include "image/store.hpp"
#include "log/log.hpp"
#include "log/message_ids.hpp"
#include "verbs.hpp"

namespace thaw::ctl {

namespace {

std::string page_size_word(std::uint64_t size) {
    return size == image::kPageSize2M ? "2M" : "4K";
}

nlohmann::json manifest_json(const image::Manifest& manifest) {
    return nlohmann::json::parse(image::format_manifest(manifest));
}

// Pages with content; the rest are zero.
Result<std::uint64_t> data_bytes(const image::OpenImage& opened) {
    THAW_TRY(const auto map, image::MemoryMap::load(opened.memory_map.get(), opened.manifest.id));
    std::uint64_t zero = 0;
    for (const auto& run : map.zero_runs())
        zero += run.page_count;
    return (map.page_count() - zero) * image::kMapPageSize;
}

std::string describe(const image::OpenImage& opened, std::uint64_t data) {
    const auto& manifest = opened.manifest;
    std::string text;
    const auto add = [&](std::string_view label, const std::string& value) {
        text += fmt::format("{:>14}: {}\n", label, printable(value));
    };
    add("Image", opened.name);
    add("Id", image::format_id(manifest.id));
    add("Sealed", format_timestamp(manifest.created));
    add("VMM", manifest.vmm_version.empty() ? manifest.vmm + " (version unknown)"
                                            : manifest.vmm + " " + manifest.vmm_version);
    add("Memory", fmt::format(
                      "{}, pages of {}, {} of data", format_size(manifest.memory_size),
                      page_size_word(manifest.page_size), format_size(data)
                  ));
    for (const auto* file : {&manifest.state, &manifest.memory, &manifest.memory_map})
        add("File", fmt::format("{} ({})", file->name, format_size(file->size)));
    if (manifest.source) add("Remote", manifest.source->memory.url);
    if (const auto& rootfs = manifest.rootfs) {
        const auto size = format_size(rootfs->file.size);
        const auto& source = manifest.source;
        const auto& place = source && source->rootfs ? source->rootfs->url : rootfs->file.name;
        add("Rootfs", fmt::format("{} ({})", place, size));
    }
    for (const auto& base : opened.bases)
        add("Laid over", fmt::format("{} ({})", base.name, image::format_id(base.id)));
    if (opened.layer_table)
        add("Own pages",
            fmt::format(
                "{} of {}", opened.layer_table->own_pages(), opened.layer_table->page_count()
            ));
    for (const auto& drive : manifest.drives)
        add("Drive", fmt::format(
                         "{} {}{}{}", drive.id, drive.path, drive.read_only ? " read-only" : "",
                         drive.shared ? " shared" : ""
                     ));
    if (!manifest.vsock_path.empty()) add("Vsock", manifest.vsock_path);
    return text;
}

// VMs that run from the image; nobody knows without the restore manager.
Result<std::vector<std::string>> users_of(const std::string& image, const OutputOptions& options) {
    THAW_TRY(auto client, Client::open(options));
    THAW_TRY(auto reply, client.manager("ListInstances", ""));
    std::vector<std::string> users;
    THAW_CHECK(reply.enter_container('a', "(sssso)"));
    for (;;) {
        THAW_TRY(const bool more, reply.enter_container('r', "sssso"));
        if (!more) break;
        const char* fields[5] = {};
        THAW_CHECK(reply.read("sssso", &fields[0], &fields[1], &fields[2], &fields[3], &fields[4]));
        if (image == fields[3]) users.emplace_back(fields[0]);
        THAW_CHECK(reply.exit_container());
    }
    return users;
}

} // namespace

Result<int> verb_image_list(const ImageArguments& arguments, const OutputOptions& options) {
    THAW_TRY(const auto images, image::Store(arguments.root).list());
    Table table(
        {{"NAME"},
         {"MEMORY", Align::Right},
         {"PAGE", Align::Right},
         {"DISK", Align::Right},
         {"BASE"},
         {"VMM"},
         {"SEALED"},
         {"STATUS"}}
    );
    auto rows = nlohmann::json::array();
    for (const auto& [name, manifest, disk_bytes] : images) {
        nlohmann::json row = {
            {"name", name}, {"valid", manifest.has_value()}, {"disk_bytes", disk_bytes}
        };
        if (manifest) {
            const auto& base = manifest->base;
            table.add(
                {name,
                 format_size(manifest->memory_size),
                 page_size_word(manifest->page_size),
                 format_size(disk_bytes),
                 base ? base->name : "",
                 manifest->vmm + " " + manifest->vmm_version,
                 format_timestamp(manifest->created),
                 {"ok", Color::Good}}
            );
            row["manifest"] = manifest_json(*manifest);
        } else {
            table.add(
                {name,
                 "",
                 "",
                 format_size(disk_bytes),
                 "",
                 "",
                 "",
                 {manifest.error().message(), Color::Bad}}
            );
            row["problem"] = manifest.error().message();
        }
        rows.push_back(std::move(row));
    }
    print_table(table, rows, "images", options);
    return kExitOk;
}

Result<int> verb_image_show(const ImageArguments& arguments, const OutputOptions& options) {
    THAW_TRY(
        const auto opened,
        image::Store(arguments.root).open(arguments.name, image::Store::Remote::Allow)
    );
    THAW_TRY(const auto data, data_bytes(opened));
    if (options.json == JsonMode::Off) {
        print_text(describe(opened, data), options);
        return kExitOk;
    }
    auto value = manifest_json(opened.manifest);
    value["name"] = opened.name;
    value["data_bytes"] = data;
    if (opened.layer_table) {
        value["own_pages"] = opened.layer_table->own_pages();
        auto bases = nlohmann::json::array();
        for (const auto& base : opened.bases)
            bases.push_back({{"name", base.name}, {"id", image::format_id(base.id)}});
        value["bases"] = std::move(bases);
    }
    print_json(value, options.json);
    return kExitOk;
}

Result<int> verb_image_remove(const ImageArguments& arguments, const OutputOptions& options) {
    if (!arguments.force) {
        const auto users = users_of(arguments.name, options);
        // Without a manager on the bus there is nobody to ask; the VMs keep their open files.
        if (users && !users->empty())
            return fail(
                EBUSY, "image '{}' is in use by {} (--force removes it all the same)",
                arguments.name, fmt::join(*users, ", ")
            );
    }
    THAW_CHECK(image::Store(arguments.root).remove(arguments.name));
    log_event(
        LogLevel::Info, message_id::kImageRemoved, {{"THAW_IMAGE", arguments.name}},
        "image {} removed", arguments.name
    );
    return kExitOk;
}

Result<int> verb_image_clean(const ImageArguments& arguments, const OutputOptions& options) {
    THAW_TRY(const auto removed, image::Store(arguments.root).clean());
    if (options.json != JsonMode::Off)
        print_json({{"removed", removed}}, options.json);
    else
        fmt::print("{} leftovers removed.\n", removed);
    return kExitOk;
}

} // namespace thaw::ctl
