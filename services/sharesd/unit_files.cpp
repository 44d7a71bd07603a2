// SPDX-License-Identifier: MIT
#include "unit_files.hpp"

#include "core/names.hpp"
#include "systemd/drop_in.hpp"

namespace thaw::sharesd {

namespace {

constexpr std::string_view kHead = "# Written by thaw-sharesd for one share; removed with it.\n";

// In a command line a dollar sign would begin a variable.
std::string quote_command_word(std::string_view word) {
    std::string quoted;
    for (const char c : quote_unit_word(word)) {
        quoted += c;
        if (c == '$') quoted += c;
    }
    return quoted;
}

} // namespace

std::string share_id(std::string_view vm, std::string_view tag) {
    return fmt::format("{}:{}", vm, tag);
}

std::string drop_in_path(std::string_view unit_directory, std::string_view unit) {
    return fmt::format("{}/{}.d/50-thaw.conf", unit_directory, unit);
}

std::string socket_drop_in_text(const ShareUnits& units) {
    const auto& options = units.options;
    return fmt::format(
        "{}"
        "[Socket]\n"
        "ListenStream=\n"
        "ListenStream={}\n"
        "SocketUser={}\n"
        "SocketGroup={}\n"
        "Slice={}\n",
        kHead, units.socket, options.socket_user.empty() ? "root" : options.socket_user,
        options.socket_group.empty() ? kSocketGroup : options.socket_group, vm_slice(units.vm)
    );
}

std::string service_drop_in_text(const ShareUnits& units) {
    const auto& options = units.options;
    std::string text(kHead);
    // The VM stops first: its file system must not vanish under it.
    if (!options.vm_unit.empty()) text += fmt::format("[Unit]\nBefore={}\n", options.vm_unit);
    text += "[Service]\nExecStart=\nExecStart=";
    for (std::size_t i = 0; i < units.command.size(); ++i) {
        if (i > 0) text += ' ';
        text += quote_command_word(units.command[i]);
    }
    text += fmt::format(
        "\n"
        "Slice={}\n"
        "LimitNOFILE={}\n"
        "LogExtraFields=THAW_INSTANCE={} THAW_SHARE={}\n"
        "{}={}:{}\n",
        vm_slice(units.vm), units.limit, units.vm, share_id(units.vm, units.tag),
        options.read_only ? "BindReadOnlyPaths" : "BindPaths", quote_unit_word(units.source),
        kSharedDirectory
    );
    if (options.memory_high != kInfinity)
        text += fmt::format("MemoryHigh={}\n", options.memory_high);
    if (!options.user.empty())
        text += fmt::format(
            "User={}\n"
            "CapabilityBoundingSet=\n"
            "RestrictNamespaces=yes\n"
            "SystemCallFilter=~@mount @privileged\n",
            options.user
        );
    return text;
}

} // namespace thaw::sharesd
