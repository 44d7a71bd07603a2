// SPDX-License-Identifier: MIT
#include "rootfs_table.hpp"

#include "api/pager1.hpp"
#include "bus/flags.hpp"
#include "bus/properties.hpp"
#include "core/names.hpp"
#include "create_request.hpp"
#include "image/manifest.hpp"
#include "remote_options.hpp"
#include "request_option.hpp"

#include <array>
#include <optional>
#include <utility>

namespace thaw::pagerd {

namespace {

constexpr std::array kRoles{FdRole::Rootfs, FdRole::RootfsListen};

// Id s, ImageName s, and where it is.
Result<> read_option(
    BusMessage& message, std::string_view key, RootfsDescription& what,
    std::optional<RemoteMemory>& remote
) {
    if (key == "Id") {
        THAW_TRY(const auto* text, read_variant<const char*>(message, key, "s"));
        if (const auto id = image::parse_id(text); !id)
            return invalid("Id: {}", id.error().message());
        what.id = text;
        return {};
    }
    if (key == "ImageName") {
        THAW_TRY(const auto* text, read_variant<const char*>(message, key, "s"));
        if (!is_valid_image_name(text)) return invalid("'{}' is no image name", text);
        what.image_name = text;
        return {};
    }
    THAW_TRY(const bool known, read_remote_option(message, key, "", remote));
    if (!known) return invalid("unknown option '{}'", key);
    return {};
}

} // namespace

Result<RootfsRequest> read_rootfs_request(BusMessage& message) {
    const char* vm = nullptr;
    const char* unit = nullptr;
    THAW_CHECK(message.read("ss", &vm, &unit));
    if (!is_valid_vm_name(vm)) return invalid("'{}' is no name of a VM", vm);
    if (!is_valid_vmm_unit(unit)) return invalid("'{}' is no name of a unit", unit);
    RootfsRequest request;
    request.what.vm = vm;
    request.what.unit = unit;
    Fd file;
    THAW_CHECK(read_file_options(message, [&](std::string_view name) -> Fd* {
        return name == "map" ? &request.map : name == "remote" ? &file : nullptr;
    }));
    std::optional<RemoteMemory> remote;
    THAW_CHECK(for_each_property(message, [&](std::string_view key) {
        return read_option(message, key, request.what, remote);
    }));
    THAW_CHECK(read_flags(message));
    if (remote) request.remote = std::move(*remote);
    request.remote.file = std::move(file);
    THAW_CHECK(check_remote_memory(request.remote, request.map, !request.what.id.empty()));
    request.size = request.remote.identity.length;
    if (request.size == 0 || request.size % image::kPageSize4K != 0 ||
        request.size > protocol::kMaxMemorySize)
        return invalid("Length {} is no number of whole pages", request.size);
    return request;
}

Result<> RootfsTable::adopt(const std::string& id, std::map<FdRole, Fd>& stored) {
    std::map<FdRole, Fd> mine;
    for (const FdRole role : kRoles)
        if (auto node = stored.extract(role)) mine.insert(std::move(node));
    if (mine.empty()) return {};
    const auto adopt_both = [&]() -> Result<> {
        if (mine.size() != kRoles.size()) return fail(EBADMSG, "not all of it was kept");
        THAW_TRY(
            auto source,
            RootfsSource::adopt(
                broker_, id, mine.at(FdRole::Rootfs), std::move(mine.at(FdRole::RootfsListen))
            )
        );
        const auto vm = source->description().vm;
        if (!sources_.emplace(vm, std::move(source)).second)
            return fail(EEXIST, "{} has another one", vm);
        return {};
    };
    auto adopted = adopt_both();
    if (adopted) return {};
    for (const auto& [role, fd] : mine)
        broker_.store.remove(stored_name(id, role));
    return std::unexpected(std::move(adopted).error().with_context("root file system " + id));
}

Result<std::string> RootfsTable::serve(RootfsRequest request) {
    const auto& what = request.what;
    if (broker_.safe_mode)
        return fail_named(
            pager1::error::kSafeMode, EAGAIN, "the pager restarts too often, nothing new is taken"
        );
    if (sources_.contains(what.vm))
        return fail_named(
            pager1::error::kRootfsExists, EEXIST, "the root file system of {} is served already",
            what.vm
        );
    THAW_TRY(
        auto* image,
        broker_.chunks->open(what.id, std::move(request.remote), request.map.get(), request.size)
    );
    // Without its image the next broker could not go on.
    if (!broker_.chunks->is_kept(*image))
        return fail_named(
            pager1::error::kStoreFull, ENOSPC, "the descriptor store has no room for {}",
            image->name()
        );
    auto source = RootfsSource::create(broker_, what, *image);
    if (!source) return std::unexpected(std::move(source).error());
    auto path = (*source)->socket_path();
    sources_.emplace(what.vm, std::move(*source));
    return path;
}

void RootfsTable::release(const std::string& vm) {
    const auto found = sources_.find(vm);
    if (found == sources_.end()) return;
    found->second->release();
    sources_.erase(found);
}

} // namespace thaw::pagerd
