// SPDX-License-Identifier: MIT

// rootfs list and status: what running overlays say of themselves.

#include "core/names.hpp"
#include "exit_codes.hpp"
#include "fields.hpp"
#include "protocol/rootfs_client.hpp"
#include "verbs.hpp"

namespace thaw::ctl {

namespace {

using protocol::RootfsClient;
using protocol::RootfsStatus;

Result<RootfsStatus> status_of(const std::string& runtime, const std::string& vm) {
    THAW_TRY(auto client, RootfsClient::connect(protocol::rootfs_control_socket(vm, runtime)));
    return client.status();
}

nlohmann::json as_json(const RootfsStatus& status) {
    return nlohmann::json::parse(protocol::format_rootfs_status(status));
}

std::string mode_of(const RootfsStatus& status) {
    return status.durable ? "durable" : "ephemeral";
}

// "12.0M of 64.0M"
std::string used_of(std::uint64_t used, std::uint64_t budget) {
    if (budget == 0) return format_size(used);
    return fmt::format("{} of {}", format_size(used), format_size(budget));
}

std::string base_of(const RootfsStatus& status) {
    switch (status.base.kind) {
    case protocol::BaseKind::None:
        return "none";
    case protocol::BaseKind::File:
        return status.base_path;
    case protocol::BaseKind::Content:
        return "image " + status.base_image;
    }
    return {};
}

Error no_overlay(Error error, const std::string& vm) {
    if (error.bus_name() != protocol::rootfs_error::kNotRunning) return error;
    return {
        protocol::rootfs_error::kNotRunning, ENOENT,
        fmt::format("no root file system of \"{}\" is served", vm)
    };
}

} // namespace

Result<int> verb_rootfs_list(const RootfsArguments& arguments, const OutputOptions& options) {
    THAW_TRY(const auto names, protocol::list_rootfs(arguments.runtime));
    Table table(
        {{"NAME"},
         {"SIZE", Align::Right},
         {"CHANGED", Align::Right},
         {"MEMORY", Align::Right},
         {"DISK", Align::Right},
         {"MODE"},
         {"BASE"}}
    );
    auto rows = nlohmann::json::array();
    for (const auto& name : names) {
        const auto status = status_of(arguments.runtime, name);
        if (!status) {
            // A folder of an overlay that is not running now.
            if (status.error().bus_name() == protocol::rootfs_error::kNotRunning) continue;
            if (status.error().code() == EACCES) return std::unexpected(status.error());
            print_warning(name + ": " + status.error().message());
            continue;
        }
        table.add(
            {name, format_size(status->geometry.size), format_size(status->dirty_bytes),
             format_size(status->memory_used), format_size(status->disk_used), mode_of(*status),
             base_of(*status)}
        );
        rows.push_back(as_json(*status));
    }
    print_table(table, rows, "overlays", options);
    return kExitOk;
}

Result<int> verb_rootfs_status(const RootfsArguments& arguments, const OutputOptions& options) {
    if (!is_valid_vm_name(arguments.vm)) return fail(EINVAL, "'{}' cannot name a VM", arguments.vm);
    const auto status = status_of(arguments.runtime, arguments.vm);
    if (!status) return std::unexpected(no_overlay(status.error(), arguments.vm));
    if (options.json != JsonMode::Off) {
        print_json(as_json(*status), options.json);
        return kExitOk;
    }
    Fields fields;
    fields.add(
        "Disk", fmt::format(
                    "{} in blocks of {}", format_size(status->geometry.size),
                    format_size(status->geometry.block_size)
                )
    );
    fields.add("Base", base_of(*status));
    fields.add("Mode", mode_of(*status));
    fields.add(
        "Changed", fmt::format(
                       "{} in {} blocks, {} blocks are zero", format_size(status->dirty_bytes),
                       status->dirty_blocks, status->zero_blocks
                   )
    );
    fields.add("Memory", used_of(status->memory_used, status->memory_budget));
    fields.add("On disk", used_of(status->disk_used, status->disk_budget));
    fields.add(
        "Requests", fmt::format(
                        "{} reads ({}), {} writes ({}), {} flushes", status->reads,
                        format_size(status->read_bytes), status->writes,
                        format_size(status->written_bytes), status->flushes
                    )
    );
    if (status->failed_reads + status->failed_writes > 0)
        fields.add(
            "Failed",
            fmt::format("{} reads, {} writes", status->failed_reads, status->failed_writes),
            Color::Bad
        );
    fields.add(
        "Points", fmt::format("{} taken{}", status->epoch, status->point_held ? ", one held" : "")
    );
    print_text(
        fmt::format("● {} - root file system\n{}", printable(arguments.vm), fields.text()), options
    );
    return kExitOk;
}

} // namespace thaw::ctl
