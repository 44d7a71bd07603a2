// SPDX-License-Identifier: MIT

// The command line of rootfs.

#include "command_line.hpp"
#include "protocol/rootfs_client.hpp"

namespace thaw::ctl {

namespace {

using RootfsVerb = Result<int> (*)(const RootfsArguments&, const OutputOptions&);

CLI::App*
add_verb(CLI::App& group, CommandLine& line, const char* name, const char* help, RootfsVerb run) {
    auto* verb = group.add_subcommand(name, help);
    verb->callback([&line, run] {
        line.run = [&line, run] { return run(line.rootfs, line.output); };
    });
    return verb;
}

} // namespace

void describe_rootfs(CLI::App& app, CommandLine& line) {
    auto* group = app.add_subcommand("rootfs", "Changes of VMs' root file systems");
    group->require_subcommand(1);
    auto& rootfs = line.rootfs;
    rootfs.runtime = protocol::kRootfsRuntime;
    group->add_option("--runtime", rootfs.runtime, "Folder of the overlays' sockets")->group("");

    add_verb(*group, line, "list", "List running overlays", verb_rootfs_list);
    add_verb(*group, line, "status", "Show an overlay", verb_rootfs_status)
        ->add_option("VM", rootfs.vm, "Name of the VM")
        ->required();

    auto* save = add_verb(
        *group, line, "export", "Write what a VM has changed to a file", verb_rootfs_export
    );
    save->add_option("VM", rootfs.vm, "Name of the VM")->required();
    save->add_option("FILE", rootfs.file, "The difference")->required();
    save->add_flag("--force", rootfs.force, "Replace the file");

    auto* import = add_verb(
        *group, line, "import", "Make a disk of a base and a difference", verb_rootfs_import
    );
    import->add_option("FILE", rootfs.file, "The difference")->required();
    auto* output = import->add_option("OUT", rootfs.output, "The disk to make");
    import->add_option("--base", rootfs.base, "What the difference lies over")->type_name("FILE");
    import->add_flag("--force", rootfs.force, "Replace the file");
    import->add_flag("--in-place", rootfs.in_place, "Change the base instead of making a file")
        ->excludes(output);
    import->add_flag("--assume-base", rootfs.assume_base, "Do not check that it is that base");

    auto* compare = add_verb(
        *group, line, "compare", "Compare differences or disks, as cmp does", verb_rootfs_compare
    );
    compare->add_option("FILE", rootfs.file, "A difference or a disk")->required();
    compare->add_option("OTHER", rootfs.other, "A difference or a disk")->required();
    compare->add_option("--base", rootfs.base, "What the differences lie over")->type_name("FILE");

    add_verb(*group, line, "show", "Show what a difference holds", verb_rootfs_show)
        ->add_option("FILE", rootfs.file, "The difference")
        ->required();
}

} // namespace thaw::ctl
