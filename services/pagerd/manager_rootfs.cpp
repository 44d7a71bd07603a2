// SPDX-License-Identifier: MIT
// The methods about root file systems that are read through the cache.
#include "api/pager1.hpp"
#include "bus/errors.hpp"
#include "bus/flags.hpp"
#include "log/log.hpp"
#include "manager.hpp"
#include "policy.hpp"

#include <utility>

namespace thaw::pagerd {

// What it takes of the store must not be missing to a session later.
Result<std::string> Manager::serve_rootfs(RootfsRequest request) {
    const std::size_t stored =
        images_.descriptors() + chunks_->descriptors() + rootfs_.descriptors();
    const std::size_t image =
        chunks_->find(request.what.id) == nullptr ? ChunkCache::kMostStored : 0;
    if (!store_has_room(
            store_.capacity(), sessions_.size(), stored, RootfsTable::kStoredPerSource + image
        ))
        return fail_named(
            pager1::error::kStoreFull, ENOSPC, "the descriptor store holds {} of {}", store_.held(),
            store_.capacity()
        );
    return rootfs_.serve(std::move(request));
}

Result<> Manager::method_serve_rootfs(BusMessage message) {
    authorize(std::move(message), [this](BusMessage& call) {
        auto request = read_rootfs_request(call);
        if (!request) return call.reply_error(request.error());
        const auto socket = serve_rootfs(std::move(*request));
        if (!socket) return call.reply_error(socket.error());
        update_status();
        if (auto sent = call.reply("s", socket->c_str()); !sent)
            log_warning("{}", sent.error().message());
    });
    return {};
}

Result<> Manager::method_release_rootfs(BusMessage message) {
    authorize(std::move(message), [this](BusMessage& call) {
        const char* vm = nullptr;
        auto read = call.read("s", &vm);
        if (read) {
            if (auto flags = read_flags(call); !flags) read = std::unexpected(flags.error());
        }
        if (!read) return call.reply_error(std::move(read).error());
        rootfs_.release(vm);
        update_status();
        if (auto sent = call.reply_empty(); !sent) log_warning("{}", sent.error().message());
    });
    return {};
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): the signature of a bus method
Result<> Manager::method_list_rootfs(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(sssu)"));
    for (const auto& [vm, source] : rootfs_.all()) {
        const auto& what = source->description();
        THAW_CHECK(reply.append(
            "(sssu)", vm.c_str(), what.unit.c_str(), what.image_name.c_str(),
            static_cast<std::uint32_t>(source->clients())
        ));
    }
    THAW_CHECK(reply.close_container());
    return reply.send();
}

} // namespace thaw::pagerd
