// SPDX-License-Identifier: MIT

#include "command_line.hpp"

#include "build_config.hpp"
#include "core/names.hpp"
#include "core/text.hpp"

namespace thaw::ctl {

namespace {

constexpr const char* kExamples = R"(Examples:
  thawctl image import base --state vm.snap --memory vm.mem --drive rootfs=/srv/root.ext4:ro:shared
  thawctl restore web base
  thawctl status web
  thawctl list --json=pretty
  thawctl policy MemoryBackend file
  thawctl df --watch
  thawctl reserve release /var/lib/thaw
  thawctl doctor

Exit status: 0 success, 1 failure, 2 usage, 3 not found, 4 denied, 5 daemon not available,
6 timeout, 7 canceled. See thawctl(1).)";

const auto& vm_name() {
    static const auto validator = checked_by([](const std::string& name) -> Result<> {
        if (is_valid_vm_name(name)) return {};
        return fail(EINVAL, "'{}' is no VM name (letters, digits, '-', at most 63)", name);
    });
    return validator;
}

const auto& size_text() {
    static const auto validator =
        checked_by([](const std::string& text) { return parse_size(text); });
    return validator;
}
const auto& time_text() {
    static const auto validator =
        checked_by([](const std::string& text) { return parse_timespan(text); });
    return validator;
}

// Limits of what is loaded ahead, of a restore or of a session that runs.
void add_limits(CLI::App& verb, std::string& rate, std::string& replay, std::string& sequential) {
    verb.add_option("--prefetch-rate", rate, "Load ahead at most so much per second, 0: no limit")
        ->type_name("SIZE")
        ->check(size_text());
    verb.add_option("--replay-budget", replay, "Of the working set, 0: all of it")
        ->type_name("SIZE")
        ->check(size_text());
    verb.add_option("--sequential-budget", sequential, "In file order without one, 0: nothing")
        ->type_name("SIZE")
        ->check(size_text());
}

void add_rootfs(CLI::App& verb, OverlayArguments& rootfs) {
    auto* base = verb.add_option("--rootfs", rootfs.base, "Base of an overlay: a file or device")
                     ->type_name("PATH");
    verb.add_flag("--rootfs-durable", rootfs.durable, "The overlay survives the VM and any crash")
        ->needs(base);
    const auto add_size = [&](const char* name, std::string& value, const char* text) {
        verb.add_option(name, value, text)->type_name("SIZE")->check(size_text())->needs(base);
    };
    add_size("--rootfs-size", rootfs.size, "Of the disk (default: the base's)");
    add_size("--rootfs-memory", rootfs.memory_max, "Changes up to here lie in memory");
    add_size("--rootfs-disk", rootfs.disk_max, "And up to here on disk");
    verb.add_option("--rootfs-drive", rootfs.drive, "The VMM opens it as this drive of the image")
        ->type_name("ID")
        ->needs(base);
}

void describe_restore(CLI::App& app, CommandLine& line) {
    auto* verb = app.add_subcommand("restore", "Restore a VM from an image and wait for it");
    auto& arguments = line.restore;
    verb->add_option("NAME", arguments.name, "Name of the VM")->required()->check(vm_name());
    verb->add_option("IMAGE", arguments.image, "Image to restore");
    verb->add_flag(
        "--from-config", arguments.from_config, "Take image and options from the VM's file in /etc"
    );
    verb->add_option("--memory-backend", arguments.memory_backend, "auto, uffd or file")
        ->type_name("WORD")
        ->check(checked_by(check_backend));
    verb->add_option_function<std::string>(
            "--prefetch",
            [&arguments](const std::string& word) {
                arguments.prefetch = parse_bool(word).value_or(true);
            },
            "Load the working set ahead"
    )
        ->type_name("BOOL")
        ->check(checked_by([](const std::string& text) { return parse_bool(text); }));
    add_limits(
        *verb, arguments.prefetch_rate, arguments.replay_budget, arguments.sequential_budget
    );
    verb->add_flag("--track", arguments.track, "Note what the VM changes, for snapshot --diff");
    verb->add_option("--load-timeout", arguments.load_timeout, "Limit for loading the snapshot")
        ->type_name("TIME")
        ->check(checked_by([](const std::string& text) { return parse_timespan(text); }));
    verb->add_option(
            "--network-override", arguments.network_overrides,
            "Host device of a guest interface (may be repeated)"
    )
        ->type_name("IFACE=DEV")
        ->check(checked_by(parse_network_override))
        ->allow_extra_args(false);
    add_rootfs(*verb, arguments.rootfs);
    verb->add_flag("--no-block", arguments.no_block, "Only queue the job");
    verb->add_option("--instances-directory", arguments.instances_directory)->group("");
    verb->callback([&line] {
        line.run = [&line] { return verb_restore(line.restore, line.output); };
    });
}

void describe_stop(CLI::App& app, CommandLine& line) {
    auto* verb = app.add_subcommand("stop", "Stop a VM and wait for its end");
    verb->add_option("NAME", line.stop.name, "Name of the VM")->required()->check(vm_name());
    verb->add_flag("--no-block", line.stop.no_block, "Only queue the job");
    verb->add_flag(
        "--ignore-missing", line.stop.ignore_missing, "Succeed when there is no such VM"
    );
    verb->callback([&line] { line.run = [&line] { return verb_stop(line.stop, line.output); }; });
}

void describe_lists(CLI::App& app, CommandLine& line) {
    app.add_subcommand("list", "List VMs")->callback([&line] {
        line.run = [&line] { return verb_list(line.output); };
    });
    app.add_subcommand("jobs", "List jobs at work")->callback([&line] {
        line.run = [&line] { return verb_jobs(line.output); };
    });
    app.add_subcommand("sessions", "List pager sessions with their counters")->callback([&line] {
        line.run = [&line] { return verb_sessions(line.output); };
    });
    auto* status = app.add_subcommand("status", "Show one VM, or the daemons");
    status->add_option("NAME", line.name, "Name of the VM")->check(vm_name());
    status->callback([&line] { line.run = [&line] { return verb_status(line.name, line.output); }; }
    );
}

void describe_sessions(CLI::App& app, CommandLine& line) {
    auto* top = app.add_subcommand("top", "Show what the pager does for each VM, live");
    top->add_option("NAME", line.top.names, "Only these VMs")->check(vm_name());
    top->add_option("-i,--interval", line.top.interval, "Time between two looks")
        ->type_name("TIME")
        ->check(time_text());
    top->add_option("-n,--iterations", line.top.iterations, "End after so many")
        ->type_name("COUNT");
    top->callback([&line] { line.run = [&line] { return verb_top(line.top, line.output); }; });
    app.add_subcommand("metrics", "Print OpenMetrics text")->callback([&line] {
        line.run = [&line] { return verb_metrics(line.output); };
    });

    auto* snapshot = app.add_subcommand("snapshot", "Make an image of a VM, which runs on");
    snapshot->add_option("NAME", line.snapshot.name, "Name of the VM")
        ->required()
        ->check(vm_name());
    snapshot->add_option("IMAGE", line.snapshot.image, "Name of the new image")->required();
    snapshot->add_flag(
        "--diff", line.snapshot.diff, "Only what changed, as a difference to the VM's image"
    );
    snapshot->add_flag("--no-block", line.snapshot.no_block, "Only queue the job");
    snapshot->callback([&line] {
        line.run = [&line] { return verb_snapshot(line.snapshot, line.output); };
    });

    auto& session = line.session;
    auto* complete = app.add_subcommand("complete", "Load all memory of a VM, then let it go");
    complete->add_option("NAME", session.name, "Name of the VM")->required()->check(vm_name());
    complete->add_flag("--no-block", session.no_block, "Do not wait for the last page");
    complete->callback([&line] {
        line.run = [&line] { return verb_complete(line.session, line.output); };
    });
    auto* quiesce =
        app.add_subcommand("quiesce", "Have the pager finish what is under way for a VM");
    quiesce->add_option("NAME", session.name, "Name of the VM")->required()->check(vm_name());
    quiesce->add_flag("--release", session.release, "Let it go on");
    quiesce->callback([&line] {
        line.run = [&line] { return verb_quiesce(line.session, line.output); };
    });
    auto* prefetch = app.add_subcommand("prefetch", "Change what is loaded ahead of a running VM");
    prefetch->add_option("NAME", session.name, "Name of the VM")->required()->check(vm_name());
    prefetch
        ->add_option_function<std::string>(
            "SWITCH",
            [&session](const std::string& word) {
                session.prefetch = parse_bool(word).value_or(true);
            },
            "yes or no"
        )
        ->check(checked_by([](const std::string& text) { return parse_bool(text); }));
    add_limits(*prefetch, session.rate, session.replay_budget, session.sequential_budget);
    prefetch->callback([&line] {
        line.run = [&line] { return verb_prefetch(line.session, line.output); };
    });
}

void describe_management(CLI::App& app, CommandLine& line) {
    auto* cancel = app.add_subcommand("cancel", "Cancel a job");
    cancel->add_option("ID", line.id, "Number of the job")
        ->required()
        ->check(checked_by([](const std::string& text) { return parse_unsigned(text, UINT32_MAX); })
        );
    cancel->callback([&line] { line.run = [&line] { return verb_cancel(line.id, line.output); }; });

    auto* policy =
        app.add_subcommand("policy", "Show or change MemoryBackend, Prefetch, Recording");
    policy->add_option("KEY", line.key, "What to show or change");
    policy->add_option("VALUE", line.value, "New value until the next start of the daemon");
    policy->callback([&line] {
        line.run = [&line] { return verb_policy(line.key, line.value, line.output); };
    });

    auto* pause = app.add_subcommand("pause", "Pause a running VM");
    pause->add_option("NAME", line.name, "Name of the VM")->required()->check(vm_name());
    pause->callback([&line] {
        line.run = [&line] { return verb_switch(Switch::Pause, line.name, line.output); };
    });
    auto* resume = app.add_subcommand("resume", "Let a paused VM run again");
    resume->add_option("NAME", line.name, "Name of the VM")->required()->check(vm_name());
    resume->callback([&line] {
        line.run = [&line] { return verb_switch(Switch::Resume, line.name, line.output); };
    });
    app.add_subcommand("doctor", "Check this host and say what to mend")->callback([&line] {
        line.run = [&line] { return verb_doctor(line.image_root, line.output); };
    });
}

void describe_space(CLI::App& app, CommandLine& line) {
    auto* df = app.add_subcommand("df", "Show guarded volumes, their levels and leases");
    df->add_flag("--watch", line.watch, "Show it again every second");
    df->callback([&line] { line.run = [&line] { return verb_df(line.watch, line.output); }; });

    auto* group = app.add_subcommand("reserve", "Space that is held back for a full disk");
    group->require_subcommand(1);
    group->add_subcommand("status", "Show the reserves as they are measured")->callback([&line] {
        line.run = [&line] { return verb_reserve_status(line.output); };
    });
    auto* release = group->add_subcommand("release", "Give a reserve back to its file system");
    auto& reserve = line.reserve;
    release->add_option("VOLUME", reserve.volume, "Mount point, any path on it, UUID or id");
    release
        ->add_option_function<std::string>(
            "--bytes",
            [&reserve](const std::string& text) { reserve.bytes = parse_size(text).value_or(0); },
            "Give at least so much instead of all"
        )
        ->type_name("SIZE")
        ->check(checked_by([](const std::string& text) -> Result<std::uint64_t> {
            THAW_TRY(const auto size, parse_size(text));
            if (size == 0) return fail(EINVAL, "expected a size above 0");
            return size;
        }));
    release->add_flag("--all", reserve.all, "The reserves of all volumes");
    release->callback([&line] {
        line.run = [&line] { return verb_reserve_release(line.reserve, line.output); };
    });
}

} // namespace

void describe(CLI::App& app, CommandLine& line) {
    line.image_root = paths::kImages;
    line.restore.instances_directory = THAW_SYSCONFDIR "/thaw/instances";
    app.require_subcommand(1);
    app.fallthrough(); // global options are fine after the verb too
    app.set_version_flag("--version", "thawctl " THAW_VERSION);
    app.add_option("--json", line.json, "Print JSON: short, pretty or off")
        ->type_name("MODE")
        ->check(CLI::IsMember({"short", "pretty", "off"}));
    auto& output = line.output;
    app.add_flag_callback("--no-pager", [&] { output.pager = false; }, "Do not use a pager");
    app.add_flag_callback(
        "--no-legend", [&] { output.legend = false; }, "No headers and no closing lines"
    );
    app.add_flag_callback(
        "--no-ask-password", [&] { output.ask_password = false; }, "Never ask for a password"
    );
    app.add_option("--image-root", line.image_root, "Folder of the images")->type_name("PATH");
    describe_restore(app, line);
    describe_stop(app, line);
    describe_lists(app, line);
    describe_sessions(app, line);
    describe_management(app, line);
    describe_image(app, line);
    describe_shares(app, line);
    describe_rootfs(app, line);
    describe_space(app, line);
    app.footer(kExamples); // last: verbs inherit the footer of the moment
}

Result<> complete(CommandLine& line) {
    if (line.json == "short") line.output.json = JsonMode::Short;
    if (line.json == "pretty") line.output.json = JsonMode::Pretty;
    const auto& restore = line.restore;
    if (!restore.name.empty() && restore.from_config == !restore.image.empty())
        return fail(EINVAL, "restore: give either IMAGE or --from-config");
    return {};
}

} // namespace thaw::ctl
