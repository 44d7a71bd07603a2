// SPDX-License-Identifier: MIT

// rootfs export: one point of a running overlay into a file.

#include "core/file.hpp"
#include "core/names.hpp"
#include "core/rootfs_names.hpp"
#include "delta/base.hpp"
#include "delta/output_file.hpp"
#include "exit_codes.hpp"
#include "guard_view.hpp"
#include "log/log.hpp"
#include "protocol/rootfs_client.hpp"
#include "verbs.hpp"
#include "with_progress.hpp"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

namespace thaw::ctl {

namespace {

using protocol::BaseIdentity;
using protocol::BaseKind;
using protocol::PointEntry;
using protocol::PointKind;
using protocol::PointReply;
using protocol::RootfsStatus;

// What the difference will say it lies over. A file is read whole, before a point is held.
Result<delta::BaseReference> reference_of_base(const RootfsStatus& status) {
    const BaseIdentity& base = status.base;
    if (base.kind == BaseKind::None) return delta::BaseReference{};
    // Its image's manifest says what is in it, and every page that comes from afar is checked.
    if (base.kind == BaseKind::Content)
        return delta::BaseReference{
            .form = delta::BaseForm::Content, .size = base.size, .id = base.id
        };
    if (status.base_path.empty())
        return fail(ENODATA, "the overlay does not say where its base is");
    THAW_TRY(
        const Fd file, open_file(status.base_path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW)
    );
    const auto check = [&]() -> Result<> {
        THAW_TRY(const BaseIdentity found, protocol::base_identity_of(file.get()));
        if (found == base) return {};
        return fail(
            ESTALE, "{} is not the file any more that the overlay lies over", status.base_path
        );
    };
    THAW_CHECK(check());
    auto reference = with_progress("Reading the base", [&](const auto& progress) {
        return delta::reference_of(file.get(), progress);
    });
    if (!reference) return reference;
    THAW_CHECK(check()); // nor changed meanwhile
    return reference;
}

// A VM whose drive is a block device has written to the host's page cache, even what its guest has
// flushed: Firecracker passes that on only when it was told to.
Result<> sync_device(const std::string& vm) {
    const auto path = paths::rootfs_device(vm);
    const auto device = open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
    if (!device && device.error().code() == ENOENT) return {};
    if (!device) return std::unexpected(device.error());
    if (::fsync(device->get()) < 0) return fail_errno(errno, "sync {}", path);
    return {};
}

std::vector<delta::SourceRun> sources_of(const PointReply& point) {
    std::vector<delta::SourceRun> sources;
    sources.reserve(point.table.size());
    for (const PointEntry& entry : point.table) {
        const Fd& file = entry.kind == PointKind::Memory ? point.memory : point.disk;
        sources.push_back(
            {.first_block = entry.first_block,
             .count = entry.count,
             .fd = entry.kind == PointKind::Zero ? -1 : file.get(),
             .offset = entry.file_offset}
        );
    }
    return sources;
}

int report(
    const RootfsArguments& arguments, const delta::Delta& written, std::uint64_t epoch,
    const OutputOptions& options
) {
    if (options.json != JsonMode::Off) {
        print_json(
            {{"vm", arguments.vm},
             {"file", arguments.file},
             {"size", written.geometry.size},
             {"block_size", written.geometry.block_size},
             {"data_blocks", written.data_blocks},
             {"zero_blocks", written.zero_blocks},
             {"data_bytes", written.data_bytes},
             {"file_bytes", written.data_offset + written.data_bytes},
             {"point", epoch},
             {"id", hex_encode(written.id.data(), written.id.size())}},
            options.json
        );
        return kExitOk;
    }
    fmt::print(
        "Exported \"{}\" to {}: {} in {} blocks, and {} blocks of zeros.\n", arguments.vm,
        arguments.file, format_size(written.data_bytes), written.data_blocks, written.zero_blocks
    );
    return kExitOk;
}

} // namespace

Result<int> verb_rootfs_export(const RootfsArguments& arguments, const OutputOptions& options) {
    if (!is_valid_vm_name(arguments.vm)) return fail(EINVAL, "'{}' cannot name a VM", arguments.vm);
    auto client = protocol::RootfsClient::connect(
        protocol::rootfs_control_socket(arguments.vm, arguments.runtime)
    );
    if (!client)
        return std::unexpected(std::move(client).error().with_context(
            fmt::format("root file system of \"{}\"", arguments.vm)
        ));
    THAW_TRY(const RootfsStatus status, client->status());
    // Before anything takes long: a name that is taken, a folder that is not there, no room.
    const auto existing = arguments.force ? delta::Existing::Replace : delta::Existing::Refuse;
    THAW_TRY(auto file, delta::OutputFile::create(arguments.file, existing));
    THAW_TRY(
        const auto lease, admit_work(
                              folder_of(arguments.file), status.dirty_bytes,
                              "export of the root file system of " + arguments.vm, options
                          )
    );
    delta::Delta what;
    THAW_TRY(what.base, reference_of_base(status));

    THAW_CHECK(sync_device(arguments.vm));
    THAW_TRY(const PointReply point, client->point());
    if (point.base != status.base || point.geometry != status.geometry)
        return fail(ESTALE, "the overlay is another one by now");
    what.geometry = point.geometry;
    what.created = now_realtime();
    if (getrandom(what.id.data(), what.id.size(), 0) != static_cast<ssize_t>(what.id.size()))
        return fail_errno(errno, "getrandom");
    auto written = with_progress("Exporting " + arguments.vm, [&](const auto& progress) {
        return delta::write_delta(file.fd(), what, sources_of(point), progress);
    });
    if (!written) return std::unexpected(std::move(written).error().with_context(arguments.file));
    {
        // The overlay need not hold the point while the disk takes the rest.
        const protocol::RootfsClient released = std::move(*client);
    }
    THAW_CHECK(file.publish());
    return report(arguments, *written, point.epoch, options);
}

} // namespace thaw::ctl
