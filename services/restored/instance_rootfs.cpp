// SPDX-License-Identifier: MIT
// Instance.GetRootfs(): what the server of the root file system says of itself, for all who ask
// meanwhile at once.
#include "instance.hpp"
#include "protocol/rootfs_client.hpp"

#include <utility>

namespace thaw::restore {

namespace {

Result<> append_status(BusMessage& reply, const protocol::RootfsStatus& status) {
    THAW_CHECK(reply.open_container('a', "{sv}"));
    const std::pair<const char*, std::uint64_t> numbers[] = {
        {"Size", status.geometry.size},
        {"DirtyBytes", status.dirty_bytes},
        {"ZeroBytes", status.zero_blocks * status.geometry.block_size},
        {"MemoryUsed", status.memory_used},
        {"MemoryMax", status.memory_budget},
        {"DiskUsed", status.disk_used},
        {"DiskMax", status.disk_budget},
        {"BytesRead", status.read_bytes},
        {"BytesWritten", status.written_bytes},
        {"BytesSpilled", status.spilled_bytes},
        {"FailedReads", status.failed_reads},
        {"FailedWrites", status.failed_writes},
    };
    for (const auto& [name, value] : numbers)
        THAW_CHECK(reply.append("{sv}", name, "t", value));
    THAW_CHECK(reply.append("{sv}", "Durable", "b", static_cast<int>(status.durable)));
    return reply.close_container();
}

Result<> answer(BusMessage& call, const protocol::RootfsStatus& status) {
    THAW_TRY(auto reply, call.new_reply());
    THAW_CHECK(append_status(reply, status));
    return reply.send();
}

} // namespace

Result<> Instance::method_get_rootfs(BusMessage message) {
    if (!record_.made.rootfs)
        return fail_named(
            protocol::rootfs_error::kNotRunning, ENOENT,
            "no root file system of \"{}\" is served here", name()
        );
    rootfs_callers_.push_back(std::move(message));
    if (!rootfs_query_)
        rootfs_query_ = std::make_unique<RootfsQuery>(
            context_.loop, protocol::rootfs_control_socket(name()),
            [this](Result<protocol::RootfsStatus> status) { answer_rootfs(status); }
        );
    return {};
}

void Instance::answer_rootfs(const Result<protocol::RootfsStatus>& status) {
    rootfs_query_.reset();
    for (auto& call : std::exchange(rootfs_callers_, {})) {
        if (!status)
            call.reply_error(status.error());
        else if (const auto sent = answer(call, *status); !sent)
            log_debug(log_fields(), "ignoring: {}", sent.error().message());
    }
}

} // namespace thaw::restore
