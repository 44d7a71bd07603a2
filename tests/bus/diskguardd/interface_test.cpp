// SPDX-License-Identifier: MIT
#include "core/file.hpp"
#include "fixture.hpp"

#include <unistd.h>

#include <regex>

namespace thaw::diskguard {
namespace {

using Interface = DiskguardTest;

// Interface of that name without comments and white space between elements.
std::string interface_of(const std::string& xml, const std::string& name) {
    auto text = std::regex_replace(xml, std::regex("<!--[^]*?-->"), "");
    const auto begin = text.find("<interface name=\"" + name + "\"");
    if (begin == std::string::npos) return {};
    text = text.substr(begin, text.find("</interface>", begin) - begin);
    return std::regex_replace(text, std::regex(">\\s+<"), "><");
}

TEST_F(Interface, IntrospectionIsWhatTheFilesSay) {
    start_daemon();
    for (const auto& [path, interface] :
         {std::pair<std::string, const char*>{diskguard1::kPath, diskguard1::kManagerInterface},
          {object(), diskguard1::kVolumeInterface}}) {
        auto reply = call(*bus_->new_call(
            diskguard1::kBusName, path, "org.freedesktop.DBus.Introspectable", "Introspect"
        ));
        const char* xml = nullptr;
        ASSERT_TRUE(reply.error.empty() && reply.message.read("s", &xml));
        const auto file = read_file(fmt::format("{}/{}.xml", INTERFACE_FOLDER, interface));
        ASSERT_TRUE(file) << file.error().message();
        EXPECT_NE(interface_of(*file, interface), "");
        EXPECT_EQ(interface_of(xml, interface), interface_of(*file, interface));
    }
}

TEST_F(Interface, UnknownFlagsAndBadTextsAreInvalid) {
    start_daemon();
    const std::string invalid(kErrorInvalidArgs);
    auto message = new_call("Release");
    ASSERT_TRUE(message.append("stt", kMount, std::uint64_t{0}, std::uint64_t{1}));
    EXPECT_EQ(call(message).error, invalid);
    message = new_call("Reserve");
    ASSERT_TRUE(message.append("stsst", kMount, std::uint64_t{1}, "a", "b", std::uint64_t{4}));
    EXPECT_EQ(call(message).error, invalid);
    message = new_call("Reserve");
    ASSERT_TRUE(message.append("stsst", kMount, std::uint64_t{1}, "", "b", std::uint64_t{0}));
    EXPECT_EQ(call(message).error, invalid);
    message = new_call("ReportWriters");
    ASSERT_TRUE(message.append("ssut", kMount, "dead", 1U, std::uint64_t{0}));
    EXPECT_EQ(call(message).error, invalid);
}

TEST_F(Interface, WithoutPolkitOnlyRootChangesAnything) {
    start_daemon();
    ASSERT_TRUE(wait_armed());
    // The bus proves the uid by the credentials of the connecting process.
    ASSERT_EQ(::seteuid(65534), 0);
    auto other = bus_daemon_->connect(*loop_);
    ASSERT_TRUE(other);
    const bool connected = until([&] { return sd_bus_is_ready(other->get()) > 0; });
    ASSERT_EQ(::seteuid(0), 0);
    ASSERT_TRUE(connected);
    std::swap(*bus_, *other);
    EXPECT_EQ(release().error, kErrorAccessDenied);
    Reply refused;
    EXPECT_FALSE(reserve(1, &refused));
    EXPECT_EQ(refused.error, kErrorAccessDenied);
    auto message = new_call("ReportWriters");
    ASSERT_TRUE(message.append("ssut", kMount, "paused", 1U, std::uint64_t{0}));
    EXPECT_EQ(call(std::move(message)).error, kErrorAccessDenied);
    // Looking is free.
    EXPECT_GT(can_fit(0), 0U);
    EXPECT_EQ(text("State"), "armed");
    std::swap(*bus_, *other);
    EXPECT_EQ(chunks_on_disk(), 2U);
}

} // namespace
} // namespace thaw::diskguard
