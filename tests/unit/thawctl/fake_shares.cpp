// SPDX-License-Identifier: MIT

#include "fake_shares.hpp"

#include "api/shares1.hpp"
#include "bus/vtable.hpp"
#include "client.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace thaw::ctl::testing {

namespace {

using S = FakeShare;

const sd_bus_vtable kShareManager[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD(
        "AddShare", "sssa{sv}t", "os", (bus_method<FakeShares, &FakeShares::method_add>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "RemoveShare", "sst", "", (bus_method<FakeShares, &FakeShares::method_remove>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "GetShare", "ss", "o", (bus_method<FakeShares, &FakeShares::method_get>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD(
        "ListShares", "", "a(ssssso)", (bus_method<FakeShares, &FakeShares::method_list>),
        SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_VTABLE_END,
};

const sd_bus_vtable kShare[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("RaiseLimit", "t", "", (bus_method<S, &S::method_raise>), 0),
    SD_BUS_METHOD("DropCaches", "", "", (bus_method<S, &S::method_drop>), 0),
    SD_BUS_PROPERTY("Name", "s", (bus_property<S, &S::append_text<&S::name>>), 0, 0),
    SD_BUS_PROPERTY("Tag", "s", (bus_property<S, &S::append_text<&S::tag>>), 0, 0),
    SD_BUS_PROPERTY("Source", "s", (bus_property<S, &S::append_text<&S::source>>), 0, 0),
    SD_BUS_PROPERTY("State", "s", (bus_property<S, &S::append_text<&S::state>>), 0, 0),
    SD_BUS_PROPERTY("DescriptorLevel", "s", (bus_property<S, &S::append_text<&S::level>>), 0, 0),
    SD_BUS_PROPERTY("Descriptors", "t", (bus_property<S, &S::append_used>), 0, 0),
    SD_BUS_PROPERTY("DescriptorBudget", "t", (bus_property<S, &S::append_budget>), 0, 0),
    SD_BUS_PROPERTY("ExhaustionUSec", "t", (bus_property<S, &S::append_unknown>), 0, 0),
    SD_BUS_PROPERTY("MemoryRSS", "t", (bus_property<S, &S::append_unknown>), 0, 0),
    SD_BUS_PROPERTY("MemoryHigh", "t", (bus_property<S, &S::append_unknown>), 0, 0),
    SD_BUS_PROPERTY("Remedies", "as", (bus_property<S, &S::append_remedies>), 0, 0),
    SD_BUS_VTABLE_END,
};

std::string share_path(const std::string& name, const std::string& tag) {
    char* path = nullptr;
    EXPECT_GE(sd_bus_path_encode(shares1::kSharePrefix, (name + ":" + tag).c_str(), &path), 0);
    const std::unique_ptr<char, decltype(&free)> owner(path, &free);
    return path;
}

} // namespace

FakeShares::FakeShares(Bus& bus, EventLoop& loop) {
    const auto keep = [&](Result<BusSlot> slot) {
        ASSERT_TRUE(slot) << slot.error().message();
        slots_.push_back(std::move(*slot));
    };
    keep(bus.add_object(shares1::kPath, shares1::kManagerInterface, kShareManager, this));
    keep(bus.add_objects(
        shares1::kSharePrefix, shares1::kShareInterface, kShare,
        [this](const std::string& path) -> void* {
            const auto found = shares.find(path);
            return found == shares.end() ? nullptr : &found->second;
        }
    ));
    bool owned = false;
    name_ = bus.request_name(shares1::kBusName, [&](Result<> done) { owned = done.has_value(); });
    for (int i = 0; i < 200 && !owned; i++)
        (void)loop.run_once(10 * kUsecPerMsec);
    EXPECT_TRUE(owned);
}

void FakeShares::add(const std::string& name, const std::string& tag, const std::string& source) {
    auto& share = shares[share_path(name, tag)];
    share.name = name;
    share.tag = tag;
    share.source = source;
    share.calls = &calls;
}

Result<> FakeShares::method_add(BusMessage message) {
    const char* name = nullptr;
    const char* tag = nullptr;
    const char* source = nullptr;
    THAW_CHECK(message.read("sss", &name, &tag, &source));
    THAW_TRY(const auto options, read_properties(message));
    std::string call = fmt::format("AddShare {} {} {}", name, tag, source);
    for (const auto& [key, value] : options.values)
        call += fmt::format(" {}={}", key, value.dump());
    calls.push_back(call);
    for (const auto& known : shares1::kErrors)
        if (known.name.ends_with(std::string(".") + tag))
            return fail_named(known.name, known.errno_value, "refused on purpose");
    add(name, tag, source);
    const auto socket = fmt::format("/run/thaw/shares/{}:{}.sock", name, tag);
    return message.reply("os", share_path(name, tag).c_str(), socket.c_str());
}

Result<> FakeShares::method_remove(BusMessage message) {
    const char* name = nullptr;
    const char* tag = nullptr;
    std::uint64_t flags = 0;
    THAW_CHECK(message.read("sst", &name, &tag, &flags));
    calls.push_back(fmt::format("RemoveShare {} {} {}", name, tag, flags));
    if (shares.erase(share_path(name, tag)) == 0)
        return fail_named(shares1::error::kNoSuchShare, ENXIO, "no share {}:{}", name, tag);
    return message.reply_empty();
}

Result<> FakeShares::method_get(BusMessage message) {
    const char* name = nullptr;
    const char* tag = nullptr;
    THAW_CHECK(message.read("ss", &name, &tag));
    const auto path = share_path(name, tag);
    if (!shares.contains(path))
        return fail_named(shares1::error::kNoSuchShare, ENXIO, "no share {}:{}", name, tag);
    return message.reply("o", path.c_str());
}

Result<> FakeShares::method_list(BusMessage message) {
    THAW_TRY(auto reply, message.new_reply());
    THAW_CHECK(reply.open_container('a', "(ssssso)"));
    for (const auto& [path, share] : shares)
        THAW_CHECK(reply.append(
            "(ssssso)", share.name.c_str(), share.tag.c_str(), share.source.c_str(),
            share.state.c_str(), share.level.c_str(), path.c_str()
        ));
    THAW_CHECK(reply.close_container());
    return reply.send();
}

Result<> FakeShare::method_raise(BusMessage message) {
    std::uint64_t limit = 0;
    THAW_CHECK(message.read("t", &limit));
    calls->push_back(fmt::format("RaiseLimit {} {} {}", name, tag, limit));
    return message.reply_empty();
}

Result<> FakeShare::method_drop(BusMessage message) {
    calls->push_back(fmt::format("DropCaches {} {}", name, tag));
    return message.reply_empty();
}

} // namespace thaw::ctl::testing
