// SPDX-License-Identifier: MIT
#include "api/shares1.hpp"
#include "build_config.hpp"
#include "bus/flags.hpp"
#include "bus/vtable.hpp"
#include "core/names.hpp"
#include "log/message_ids.hpp"
#include "manager.hpp"
#include "unit_files.hpp"

namespace thaw::sharesd {

namespace error = shares1::error;

namespace {

Result<> check_names(std::string_view vm, std::string_view tag) {
    if (!is_valid_vm_name(vm))
        return fail_named(error::kInvalidName, EINVAL, "\"{}\" is no name for a VM", vm);
    if (!is_valid_share_tag(tag))
        return fail_named(
            error::kInvalidTag, EINVAL,
            "\"{}\" is no tag: letters, digits, \"_\", \".\" and \"-\", at most 36, not beginning "
            "with \".\" or \"-\"",
            tag
        );
    if (!is_valid_share_name(vm, tag))
        return fail_named(
            error::kInvalidTag, EINVAL, "\"{}\" and \"{}\" are too long for one unit", vm, tag
        );
    return {};
}

} // namespace

// `allowed` runs only for a caller that may; any other one is answered here.
void Manager::authorize(
    const BusMessage& message, const char* action, const std::string& vm,
    std::function<void()> allowed
) {
    const auto uid = message.sender_uid();
    const auto who = uid ? std::to_string(*uid) : "?";
    polkit_.authorize(
        message, action, {{"instance", vm}},
        [message, vm, who, action, allowed = std::move(allowed)](Result<> decision) {
            if (decision) return allowed();
            log_event(
                LogLevel::Notice, message_id::kAccessDenied,
                {{"THAW_INSTANCE", vm}, {"THAW_ACTION", action}, {"THAW_CALLER_UID", who}},
                "refused uid {}: {}", who, decision.error().message()
            );
            message.reply_error(decision.error());
        }
    );
}

Result<> Manager::method_add(BusMessage message) {
    const char *vm = nullptr, *tag = nullptr, *source = nullptr;
    THAW_CHECK(message.read("sss", &vm, &tag, &source));
    AddRequest request{.vm = vm, .tag = tag, .source = source};
    THAW_TRY(request.options, read_options(message, loaded_.config.default_options()));
    THAW_CHECK(read_flags(message));
    THAW_TRY(request.owner, message.sender_uid());
    // What is wrong with a name is for everybody to know, and leaves a trace.
    if (auto named = check_names(vm, tag); !named) {
        refuse(request, named.error(), message);
        return {};
    }
    const auto name = request.vm;
    authorize(message, shares1::kActionAdd, name, [this, message, request]() {
        add(request, message);
    });
    return {};
}

Result<> Manager::method_remove(BusMessage message) {
    const char *vm = nullptr, *tag = nullptr;
    THAW_CHECK(message.read("ss", &vm, &tag));
    THAW_TRY(auto* share, find_published(vm, tag));
    return request_remove(*share, std::move(message));
}

// The cursor of `message` stands before the flags.
Result<> Manager::request_remove(Share& share, BusMessage message) {
    THAW_TRY(const auto flags, read_flags(message, shares1::kRemoveForce));
    authorize(
        message, shares1::kActionRemove, share.record().vm,
        [this, message, flags, id = share.id()] { do_remove(id, flags, message); }
    );
    return {};
}

void Manager::do_remove(const std::string& id, std::uint64_t flags, const BusMessage& message) {
    auto* share = find(id);
    if (share == nullptr)
        return message.reply_error(
            Error(error::kNoSuchShare, ENXIO, fmt::format("there is no {} any more", id))
        );
    const bool force = (flags & shares1::kRemoveForce) != 0;
    if (is_in_use(share->state()) && !force)
        return message.reply_error(
            Error(error::kInUse, EBUSY, fmt::format("{} is in use by a VM", id))
        );
    share->remove("removed", [call = BusMessage(message)](const Result<>& gone) mutable {
        if (!gone) return call.reply_error(gone.error());
        (void)call.reply_empty(); // a caller that is gone learns nothing
    });
}

Result<> Manager::request_raise_limit(Share& share, BusMessage message) {
    std::uint64_t limit = 0;
    THAW_CHECK(message.read("t", &limit));
    authorize(
        message, shares1::kActionAdjust, share.record().vm,
        [this, message, limit, id = share.id()]() mutable {
            auto* found = find(id);
            auto done = found ? found->raise_limit(limit)
                              : fail_named(error::kNoSuchShare, ENXIO, "{} is gone", id);
            if (!done) return message.reply_error(done.error());
            (void)message.reply_empty();
        }
    );
    return {};
}

Result<> Manager::request_drop_caches(const Share& share, const BusMessage& message) {
    authorize(
        message, shares1::kActionAdjust, share.record().vm,
        [this, call = BusMessage(message), id = share.id()]() mutable {
            auto* found = find(id);
            auto done = found ? found->drop_caches()
                              : fail_named(error::kNoSuchShare, ENXIO, "{} is gone", id);
            if (!done) return call.reply_error(done.error());
            (void)call.reply_empty();
        }
    );
    return {};
}

Result<> Manager::method_get(BusMessage message) {
    const char *vm = nullptr, *tag = nullptr;
    THAW_CHECK(message.read("ss", &vm, &tag));
    THAW_TRY(const auto* share, find_published(vm, tag));
    return message.reply("o", share->path().c_str());
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): the signature of all methods
Result<> Manager::method_list(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(ssssso)"));
    for (const auto& [id, share] : shares_) {
        if (!share->is_published()) continue;
        const auto& record = share->record();
        const std::string state(kShareStateNames.name(share->state()));
        const std::string level(kLevelNames.name(share->worst_level()));
        THAW_CHECK(reply.append(
            "(ssssso)", record.vm.c_str(), record.tag.c_str(), record.source.c_str(), state.c_str(),
            level.c_str(), share->path().c_str()
        ));
    }
    THAW_CHECK(reply.close_container());
    return reply.send();
}

Result<> Manager::append_version(BusMessage& reply) const {
    return reply.append("s", THAW_VERSION);
}

Result<> Manager::append_shares(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(count_published()));
}

Result<> Manager::append_max_shares(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(loaded_.config.max_shares));
}

Result<> Manager::append_allowed(BusMessage& reply) const {
    THAW_CHECK(reply.open_container('a', "s"));
    for (const auto& directory : loaded_.config.allowed_sources)
        if (auto done = reply.append("s", directory.c_str()); !done) return done;
    return reply.close_container();
}

Result<> Manager::append_method(BusMessage& reply) const {
    const std::string word(kCountMethodNames.name(context_.method));
    return reply.append("s", word.c_str());
}

void Manager::changed(std::vector<std::string> properties) {
    // Nobody may be listening yet, or the bus may be going; both are fine.
    (void)daemon_.bus.emit_properties_changed(
        shares1::kPath, shares1::kManagerInterface, std::move(properties)
    );
}

Result<> Manager::export_objects() {
    auto& bus = daemon_.bus;
    const auto keep = [this](Result<BusSlot> slot) -> Result<> {
        if (!slot) return std::unexpected(std::move(slot).error());
        slots_.push_back(std::move(*slot));
        return {};
    };
    THAW_CHECK(keep(bus.add_object_manager(shares1::kPath)));
    THAW_CHECK(keep(bus.add_object(shares1::kPath, shares1::kManagerInterface, vtable(), this)));
    const auto find_object = [this](const std::string& path) -> void* {
        const auto id = decode_object_path(shares1::kSharePrefix, path);
        if (!id) return nullptr;
        // An object that was just removed is still asked for by its last signal.
        for (const auto& share : ended_)
            if (share->path() == path && share->is_published()) return share.get();
        auto* share = find(*id);
        return share != nullptr && share->is_published() ? share : nullptr;
    };
    THAW_CHECK(keep(bus.add_objects(
        shares1::kSharePrefix, shares1::kShareInterface, Share::vtable(), find_object
    )));
    return keep(bus.add_enumerator(shares1::kSharePrefix, [this] {
        std::vector<std::string> paths;
        for (const auto& [id, share] : shares_)
            if (share->is_published()) paths.push_back(share->path());
        return paths;
    }));
}

const sd_bus_vtable* Manager::vtable() {
    using M = Manager;
    constexpr auto kFree = SD_BUS_VTABLE_UNPRIVILEGED;
    constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
    constexpr auto kEmits = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
    static const sd_bus_vtable table[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", (bus_property<M, &M::append_version>), 0, kConst),
        SD_BUS_PROPERTY("NShares", "u", (bus_property<M, &M::append_shares>), 0, kEmits),
        SD_BUS_PROPERTY("MaxShares", "u", (bus_property<M, &M::append_max_shares>), 0, kConst),
        SD_BUS_PROPERTY("AllowedSources", "as", (bus_property<M, &M::append_allowed>), 0, kConst),
        SD_BUS_PROPERTY("CountMethod", "s", (bus_property<M, &M::append_method>), 0, kConst),
        SD_BUS_METHOD_WITH_ARGS(
            "AddShare", SD_BUS_ARGS("s", name, "s", tag, "s", source, "a{sv}", options, "t", flags),
            SD_BUS_RESULT("o", share, "s", socket), (bus_method<M, &M::method_add>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "RemoveShare", SD_BUS_ARGS("s", name, "s", tag, "t", flags), SD_BUS_NO_RESULT,
            (bus_method<M, &M::method_remove>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "GetShare", SD_BUS_ARGS("s", name, "s", tag), SD_BUS_RESULT("o", share),
            (bus_method<M, &M::method_get>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "ListShares", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssssso)", shares),
            (bus_method<M, &M::method_list>), kFree
        ),
        SD_BUS_SIGNAL_WITH_ARGS("ShareNew", SD_BUS_ARGS("s", name, "s", tag, "o", share), 0),
        SD_BUS_SIGNAL_WITH_ARGS(
            "ShareRemoved", SD_BUS_ARGS("s", name, "s", tag, "o", share, "s", result), 0
        ),
        SD_BUS_VTABLE_END,
    };
    return table;
}

} // namespace thaw::sharesd
