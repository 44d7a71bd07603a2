// SPDX-License-Identifier: MIT

// The command line of image.

#include "command_line.hpp"
#include "core/text.hpp"

namespace thaw::ctl {

namespace {

void add_settings(CLI::App& verb, ImageArguments& image) {
    verb.add_option("--page-size", image.page_size, "Page size of the guest's memory on the host")
        ->type_name("4K|2M")
        ->check(checked_by(parse_page_size));
    verb.add_option("--vmm", image.vmm, "VMM that wrote the snapshot")->type_name("NAME");
    verb.add_option("--vmm-version", image.vmm_version, "Its version")->type_name("VERSION");
    verb.add_option("--drive", image.drives, "Drive of the snapshot (may be repeated)")
        ->type_name("ID=PATH[:ro][:shared]")
        ->check(checked_by(parse_drive))
        ->allow_extra_args(false);
    verb.add_option("--vsock", image.vsock_path, "Path of the snapshot's vsock socket")
        ->type_name("PATH");
}

using ImageVerb = Result<int> (*)(const ImageArguments&, const OutputOptions&);

CLI::App* add_image_verb(
    CLI::App& parent, CommandLine& line, const char* name, const char* help, ImageVerb verb,
    bool named
) {
    auto* app = parent.add_subcommand(name, help);
    if (named) app->add_option("NAME", line.image.name, "Name of the image")->required();
    app->callback([&line, verb] {
        line.run = [&line, verb] {
            line.image.root = line.image_root;
            return verb(line.image, line.output);
        };
    });
    return app;
}

void describe_remote(CLI::App& group, CommandLine& line) {
    auto& image = line.image;
    auto* add = add_image_verb(
        group, line, "add-remote", "Use an image whose memory stays on a server",
        verb_image_add_remote, true
    );
    auto* pull =
        add_image_verb(group, line, "pull", "Fetch all of a remote image", verb_image_pull, true);
    auto* push =
        add_image_verb(group, line, "push", "Put an image on a server", verb_image_push, true);
    for (auto* verb : {add, push})
        verb->add_option("URL", image.url, "Folder of the image there")->required();
    push->add_flag("--force", image.force, "Also when there is one already");
    for (auto* verb : {add, pull, push})
        verb->add_option("--fetch-socket", image.fetch_socket, "Socket of thaw-fetchd")
            ->type_name("PATH");
}

} // namespace

void describe_image(CLI::App& app, CommandLine& line) {
    auto* group = app.add_subcommand("image", "Manage images");
    group->require_subcommand(1);
    auto& image = line.image;
    auto* import = add_image_verb(
        *group, line, "import", "Make an image of a snapshot", verb_image_import, true
    );
    import->add_option("--state", image.state_path, "The VMM's state file")
        ->required()
        ->type_name("FILE");
    import->add_option("--memory", image.memory_path, "The VMM's memory file")
        ->required()
        ->type_name("FILE");
    auto* rootfs =
        import->add_option("--rootfs", image.rootfs_path, "Root file system for overlays of VMs")
            ->type_name("FILE");
    import->add_flag("--move", image.move, "Take the files instead of copying them");
    auto* base = import->add_option("--base", image.base, "Make a difference to that image")
                     ->type_name("IMAGE");
    auto* pages = import->add_option("--pages", image.pages_path, "Bitmap of the pages to take")
                      ->type_name("FILE");
    base->needs(pages)->excludes(rootfs);
    pages->needs(base);
    add_settings(*import, image);

    auto* seal = add_image_verb(
        *group, line, "seal", "Seal state and memory that are in place already", verb_image_seal,
        true
    );
    seal->add_option("--state", image.state_path, "Name of the state file in it")
        ->type_name("NAME");
    seal->add_option("--memory", image.memory_path, "Name of the memory file in it")
        ->type_name("NAME");
    seal->add_option("--rootfs", image.rootfs_path, "Name of a root file system in it")
        ->type_name("NAME");
    add_settings(*seal, image);

    auto* record = add_image_verb(
        *group, line, "record", "Restore a VM to see what it touches first", verb_image_record, true
    );
    record->add_option("--runs", image.runs, "Keep what so many runs have in common")
        ->type_name("COUNT");
    record->add_option("--max", image.max, "Limit of each run")
        ->type_name("TIME")
        ->check(checked_by([](const std::string& text) { return parse_timespan(text); }));
    record->add_flag("--allow-writes", image.allow_writes, "Also with drives that it may write to");
    record->add_flag("--no-block", image.no_block, "Only queue the job");
    describe_remote(*group, line);
    add_image_verb(
        *group, line, "verify", "Read an image and compare all checksums", verb_image_verify, true
    );
    add_image_verb(*group, line, "list", "List images", verb_image_list, false);
    add_image_verb(*group, line, "show", "Show one image", verb_image_show, true);
    add_image_verb(*group, line, "rm", "Remove an image", verb_image_remove, true)
        ->add_flag("--force", image.force, "Also when a VM runs from it");
    auto* save = add_image_verb(
        *group, line, "export-delta", "Write an image that is a difference to one file",
        verb_image_export_delta, true
    );
    save->add_option("FILE", image.delta_path, "The file")->required();
    save->add_flag("--force", image.force, "Replace the file");
    auto* unpack = add_image_verb(
        *group, line, "import-delta", "Make an image of such a file", verb_image_import_delta, true
    );
    unpack->add_option("FILE", image.delta_path, "The file")->required();
    unpack->add_option("--base", image.base, "Image that it lies over (default: by its id)")
        ->type_name("IMAGE");
    add_image_verb(*group, line, "clean", "Remove what crashes left", verb_image_clean, false);
}

} // namespace thaw::ctl
