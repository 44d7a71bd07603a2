// SPDX-License-Identifier: MIT

// The command line of share and cache.

#include "command_line.hpp"
#include "core/text.hpp"

namespace thaw::ctl {

namespace {

// The name under which shares of VMs that are not ours are kept.
constexpr const char* kForeignName = "extern";

CLI::Validator number_check() {
    return CLI::Validator(
        [](const std::string& text) {
            const auto parsed = parse_unsigned(text);
            return parsed ? std::string() : parsed.error().message();
        },
        ""
    );
}

CLI::Validator size_check() {
    return CLI::Validator(
        [](const std::string& text) {
            const auto parsed = parse_size(text);
            return parsed ? std::string() : parsed.error().message();
        },
        ""
    );
}

// "auto|never", for the help.
std::string choice_of(const std::vector<std::string>& words) {
    std::string text;
    for (const auto& word : words)
        text += (text.empty() ? "" : "|") + word;
    return text;
}

void add_choice(
    CLI::App& verb, const char* option, std::string& into, const char* help,
    const std::vector<std::string>& words
) {
    verb.add_option(option, into, help)->type_name(choice_of(words))->check(CLI::IsMember(words));
}

void add_share_options(CLI::App& verb, ShareArguments& share) {
    verb.add_flag("--read-only", share.read_only, "The guest cannot write, whatever it mounts");
    add_choice(
        verb, "--file-handles", share.file_handles, "Handles in place of open descriptors",
        {"auto", "mandatory", "prefer", "never"}
    );
    verb.add_option("--limit", share.limit, "Descriptors of the daemon (LimitNOFILE=)")
        ->type_name("N")
        ->check(number_check());
    add_choice(
        verb, "--on-low-limit", share.on_low_limit, "When the machine gives less",
        {"fail", "degraded"}
    );
    verb.add_option("--memory-high", share.memory_high, "Memory of the daemon (MemoryHigh=)")
        ->type_name("SIZE")
        ->check(size_check());
    add_choice(
        verb, "--cache", share.cache, "What the guest may cache",
        {"auto", "always", "never", "metadata"}
    );
    add_choice(
        verb, "--sandbox", share.sandbox, "How the daemon locks itself in",
        {"namespace", "chroot", "none"}
    );
    verb.add_option("--user", share.user, "Run the daemon as this user, without capability")
        ->type_name("USER");
    verb.add_option("--socket-user", share.socket_user, "Who may connect")->type_name("USER");
    verb.add_option("--socket-group", share.socket_group, "Who may connect")->type_name("GROUP");
    verb.add_option("--translate-uid", share.translate_uid, "As of virtiofsd (may be repeated)")
        ->type_name("MAP")
        ->allow_extra_args(false);
    verb.add_option("--translate-gid", share.translate_gid, "As of virtiofsd (may be repeated)")
        ->type_name("MAP")
        ->allow_extra_args(false);
    verb.add_flag("--xattr", share.xattr, "Extended attributes");
    verb.add_flag("--posix-acl", share.posix_acl, "POSIX ACLs");
    verb.add_flag("--allow-mmap", share.allow_mmap, "Shared mappings without a cache");
    verb.add_flag("--writeback", share.writeback, "The guest may write later");
    verb.add_option("--threads", share.threads, "Threads of the daemon")
        ->type_name("N")
        ->check(number_check());
    verb.add_flag("--reconnectable", share.reconnectable, "The VMM connects again by itself");
    verb.add_flag("--offer-tag", share.offer_tag, "The daemon tells the VMM its tag");
    add_choice(
        verb, "--on-loss", share.on_loss, "What becomes of the VM without the share",
        {"ignore", "stop"}
    );
    verb.add_option("--unit", share.unit, "Unit of the VM, whose end ends the share")
        ->type_name("UNIT");
}

using ShareVerb = Result<int> (*)(const ShareArguments&, const OutputOptions&);

CLI::App*
add_verb(CLI::App& group, CommandLine& line, const char* name, const char* help, ShareVerb run) {
    auto* verb = group.add_subcommand(name, help);
    verb->callback([&line, run] {
        line.run = [&line, run] { return run(line.share, line.output); };
    });
    return verb;
}

void add_name_and_tag(CLI::App& verb, ShareArguments& share, bool tag_required) {
    verb.add_option("VM", share.name, "Name of the VM")->required();
    auto* tag = verb.add_option("TAG", share.tag, "What the guest mounts");
    if (tag_required) tag->required();
}

void describe_cache(CLI::App& app, CommandLine& line) {
    auto* group = app.add_subcommand("cache", "Fill caches in guests");
    group->require_subcommand(1);
    auto* warm = group->add_subcommand("warm", "Copy a folder into a guest's own disk, once");
    auto& cache = line.cache;
    warm->add_option("VM", cache.vm, "Name of the VM, for the transport")->required();
    warm->add_option("SOURCE", cache.source, "Folder on this host")->required();
    warm->add_option("DEST", cache.destination, "Folder in the guest, absolute")->required();
    warm->add_flag("--refresh", cache.refresh, "Replace what an earlier run made");
    warm->add_option("--transport", cache.transport, "Command that runs words in the guest")
        ->type_name("COMMAND");
    warm->add_option("--timeout", cache.timeout, "Limit of a silent guest")
        ->type_name("TIME")
        ->check(CLI::Validator(
            [](const std::string& text) {
                const auto parsed = parse_timespan(text);
                return parsed ? std::string() : parsed.error().message();
            },
            ""
        ));
    warm->callback([&line] {
        line.run = [&line] { return verb_cache_warm(line.cache, line.output); };
    });
}

} // namespace

void describe_shares(CLI::App& app, CommandLine& line) {
    auto* group = app.add_subcommand("share", "Manage virtiofs shares");
    group->require_subcommand(1);
    auto& share = line.share;

    auto* add = add_verb(*group, line, "add", "Start a share for a VM", verb_share_add);
    add_name_and_tag(*add, share, true);
    add->add_option("SOURCE", share.source, "Folder to share")->required();
    add_share_options(*add, share);

    auto* open = add_verb(
        *group, line, "open", "Start a share for any VMM, print its socket",
        [](const ShareArguments& arguments, const OutputOptions& options) {
            auto named = arguments;
            if (named.name.empty()) named.name = kForeignName;
            return verb_share_open(named, options);
        }
    );
    open->add_option("SOURCE", share.source, "Folder to share")->required();
    open->add_option("TAG", share.tag, "What the guest mounts")->required();
    open->add_option("--name", share.name, "Name to keep it under (default: extern)")
        ->type_name("NAME");
    add_share_options(*open, share);

    group->add_subcommand("list", "List shares")->callback([&line] {
        line.run = [&line] { return verb_share_list(line.output); };
    });
    auto* status = add_verb(*group, line, "status", "Show shares of a VM", verb_share_status);
    add_name_and_tag(*status, share, false);
    auto* remove = add_verb(*group, line, "remove", "Stop a share", verb_share_remove);
    add_name_and_tag(*remove, share, true);
    remove->add_flag("--force", share.force, "Also while a VM uses it");
    auto* raise = add_verb(
        *group, line, "raise-limit", "Give a running daemon more descriptors",
        verb_share_raise_limit
    );
    add_name_and_tag(*raise, share, true);
    raise->add_option("N", share.limit, "The new limit")->required()->check(number_check());
    auto* drop = add_verb(
        *group, line, "drop-caches", "Have the guest give back what it only caches",
        verb_share_drop_caches
    );
    add_name_and_tag(*drop, share, true);
    describe_cache(app, line);
}

} // namespace thaw::ctl
