// SPDX-License-Identifier: MIT
#include "bus/log_control.hpp"
#include "log/log.hpp"
#include "peer_fixture.hpp"

#include <map>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

class Objects : public PeerTest {
public:
    Result<BusMessage> get(const std::string& path, const char* interface, const char* property) {
        auto message = bus->client.new_call("", path, "org.freedesktop.DBus.Properties", "Get");
        if (message) THAW_CHECK(message->append("ss", interface, property));
        return ask(std::move(message));
    }
    std::string get_text(const std::string& path, const char* interface, const char* property) {
        auto reply = get(path, interface, property);
        const char* text = nullptr;
        if (!reply) return "error " + reply.error().message();
        if (!reply->read("v", "s", &text)) return "not a string";
        return text;
    }
    Result<BusMessage> set_text(
        const std::string& path, const char* interface, const char* property, const char* value
    ) {
        auto message = bus->client.new_call("", path, "org.freedesktop.DBus.Properties", "Set");
        if (message) THAW_CHECK(message->append("ssv", interface, property, "s", value));
        return ask(std::move(message));
    }
};

TEST_F(Objects, PropertiesAreReadByMembers) {
    EXPECT_EQ(get_text(kObject, kEchoInterface, "Text"), "hello");
    auto bad = get(kObject, kEchoInterface, "Bad");
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().bus_name(), kNamedError);
}

TEST_F(Objects, DroppedObjectIsGone) {
    object.reset();
    auto reply = ask(say("x"));
    ASSERT_FALSE(reply);
    EXPECT_EQ(echo.calls, 0U);
}

TEST_F(Objects, PropertiesChangedCarriesTheValue) {
    std::string heard;
    auto match = bus->client.match_signal(
        "", kObject, "org.freedesktop.DBus.Properties", "PropertiesChanged",
        [&](BusMessage& message) {
            const char *interface = nullptr, *name = nullptr, *value = nullptr;
            if (message.read("s", &interface) && message.enter_container('a', "{sv}") &&
                message.enter_container('e', "sv") && message.read("s", &name) &&
                message.read("v", "s", &value))
                heard = fmt::format("{} {} {}", interface, name, value);
        }
    );
    ASSERT_TRUE(match);
    echo.text = "changed";
    ASSERT_TRUE(bus->server.emit_properties_changed(kObject, kEchoInterface, {"Text"}));
    EXPECT_TRUE(fakes::run_until(*loop, [&] { return heard == "org.thaw.test1.Echo Text changed"; })
    ) << heard;
}

class ManyObjects : public Objects {
public:
    static constexpr const char* kPrefix = "/org/thaw/test1/item";
    void SetUp() override {
        Objects::SetUp();
        items["a-b"].text = "first";
        items["\xc3\xa4"].text = "second"; // any bytes make a path
        keep(bus->server.add_object_manager(kObject));
        keep(bus->server.add_objects(
            kPrefix, kEchoInterface, kEchoVtable,
            [this](const std::string& path) -> void* {
                auto name = decode_object_path(kPrefix, path);
                auto found = name ? items.find(*name) : items.end();
                return found != items.end() ? &found->second : nullptr;
            }
        ));
        keep(bus->server.add_enumerator(kPrefix, [this] {
            std::vector<std::string> paths;
            for (const auto& [name, item] : items)
                paths.push_back(encode_object_path(kPrefix, name));
            return paths;
        }));
    }
    void keep(Result<BusSlot> slot) {
        ASSERT_TRUE(slot) << slot.error().message();
        slots.push_back(std::move(*slot));
    }
    std::map<std::string, Echo> items;
    std::vector<BusSlot> slots;
};

TEST_F(ManyObjects, EachPathReachesItsObject) {
    EXPECT_EQ(get_text(encode_object_path(kPrefix, "a-b"), kEchoInterface, "Text"), "first");
    EXPECT_EQ(get_text(encode_object_path(kPrefix, "\xc3\xa4"), kEchoInterface, "Text"), "second");
    auto missing = get(encode_object_path(kPrefix, "c"), kEchoInterface, "Text");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().bus_name(), kErrorUnknownObject);
    items.erase("a-b");
    EXPECT_FALSE(get(encode_object_path(kPrefix, "a-b"), kEchoInterface, "Text"));
}

TEST_F(ManyObjects, ObjectManagerListsThem) {
    auto reply = ask(
        bus->client.new_call("", kObject, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    );
    ASSERT_TRUE(reply) << reply.error().message();
    std::vector<std::string> paths;
    ASSERT_TRUE(reply->enter_container('a', "{oa{sa{sv}}}"));
    while (true) {
        auto more = reply->enter_container('e', "oa{sa{sv}}");
        ASSERT_TRUE(more);
        if (!*more) break;
        const char* path = nullptr;
        ASSERT_TRUE(reply->read("o", &path));
        paths.emplace_back(path);
        ASSERT_TRUE(reply->skip("a{sa{sv}}"));
        ASSERT_TRUE(reply->exit_container());
    }
    for (const auto& [name, item] : items)
        EXPECT_EQ(std::count(paths.begin(), paths.end(), encode_object_path(kPrefix, name)), 1);
}

TEST_F(ManyObjects, AddedAndRemovedAreAnnounced) {
    std::vector<std::string> heard;
    auto note = [&](BusMessage& message) {
        const char* path = nullptr;
        if (message.read("o", &path))
            heard.push_back(fmt::format("{} {}", sd_bus_message_get_member(message.get()), path));
    };
    auto match = bus->client.match_signal("", "", "org.freedesktop.DBus.ObjectManager", "", note);
    ASSERT_TRUE(match);
    const auto path = encode_object_path(kPrefix, "a-b");
    ASSERT_TRUE(bus->server.emit_object_added(path));
    ASSERT_TRUE(bus->server.emit_object_removed(path));
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return heard.size() == 2; }));
    EXPECT_EQ(heard[0], "InterfacesAdded " + path);
    EXPECT_EQ(heard[1], "InterfacesRemoved " + path);
}

TEST(ObjectPath, EncodeAndDecode) {
    const auto path = encode_object_path("/org/x/vm", "a-b");
    EXPECT_EQ(path, "/org/x/vm/a_2db");
    auto name = decode_object_path("/org/x/vm", path);
    ASSERT_TRUE(name);
    EXPECT_EQ(*name, "a-b");
    for (const char* bad : {"/org/y/vm/a", "/org/x/vm", "/org/x/vm/a/b", "/org/x/vmx/a"})
        EXPECT_FALSE(decode_object_path("/org/x/vm", bad)) << bad;
}

class LogControl : public Objects {
public:
    static constexpr const char* kLogPath = "/org/freedesktop/LogControl1";
    static constexpr const char* kLogInterface = "org.freedesktop.LogControl1";
    void SetUp() override {
        Objects::SetUp();
        level_before = log_level();
        target_before = log_target();
        auto exported = export_log_control(bus->server);
        ASSERT_TRUE(exported);
        log_slot = std::move(*exported);
    }
    void TearDown() override {
        set_log_level(level_before);
        set_log_target(target_before);
    }
    LogLevel level_before{};
    LogTarget target_before{};
    BusSlot log_slot;
};

TEST_F(LogControl, LevelAndTargetAreReadAndSet) {
    set_log_level(LogLevel::Info);
    EXPECT_EQ(get_text(kLogPath, kLogInterface, "LogLevel"), "info");
    ASSERT_TRUE(set_text(kLogPath, kLogInterface, "LogLevel", "debug"));
    EXPECT_EQ(log_level(), LogLevel::Debug);
    ASSERT_TRUE(set_text(kLogPath, kLogInterface, "LogTarget", "console"));
    EXPECT_EQ(log_target(), LogTarget::Stderr);
    EXPECT_EQ(get_text(kLogPath, kLogInterface, "LogTarget"), "console");
    EXPECT_EQ(get_text(kLogPath, kLogInterface, "SyslogIdentifier"), log_identifier());
}

TEST_F(LogControl, NonsenseIsRefusedAndChangesNothing) {
    set_log_level(LogLevel::Info);
    auto reply = set_text(kLogPath, kLogInterface, "LogLevel", "loud");
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().bus_name(), kErrorInvalidArgs);
    EXPECT_FALSE(set_text(kLogPath, kLogInterface, "LogTarget", "printer"));
    EXPECT_FALSE(set_text(kLogPath, kLogInterface, "SyslogIdentifier", "x"));
    EXPECT_EQ(log_level(), LogLevel::Info);
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
