// SPDX-License-Identifier: MIT
#include "bus/errors.hpp"
#include "bus/polkit.hpp"
#include "bus/vtable.hpp"
#include "fakes/bus_fixture.hpp"

#include <sys/wait.h>
#include <unistd.h>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

constexpr const char* kPolkitTestName = "org.thaw.test1";
constexpr const char* kPath = "/org/thaw/test1";
constexpr const char* kInterface = "org.thaw.test1.Asked";
constexpr uid_t kUnprivileged = 65534; // nobody: dbus-daemon turns away whom it cannot look up

// polkit's authority, as far as its interface documents CheckAuthorization.
struct FakePolkit {
    bool authorized = false;
    bool challenge = false;
    bool silent = false;
    BusMessage kept;
    std::string subject, action, detail;
    std::uint32_t flags = 99;

    Result<> method_check(BusMessage message) {
        const char *kind = nullptr, *key = nullptr, *name = nullptr, *asked = nullptr;
        const char *detail_key = "", *detail_value = "", *cancellation = nullptr;
        THAW_CHECK(message.enter_container('r', "sa{sv}"));
        THAW_CHECK(message.read("s", &kind));
        THAW_CHECK(message.enter_container('a', "{sv}"));
        THAW_CHECK(message.enter_container('e', "sv"));
        THAW_CHECK(message.read("s", &key));
        THAW_CHECK(message.read("v", "s", &name));
        for (int i = 0; i < 3; ++i)
            THAW_CHECK(message.exit_container());
        THAW_CHECK(message.read("s", &asked));
        THAW_CHECK(message.enter_container('a', "{ss}"));
        THAW_TRY(const bool has_detail, message.enter_container('e', "ss"));
        if (has_detail) {
            THAW_CHECK(message.read("ss", &detail_key, &detail_value));
            THAW_CHECK(message.exit_container());
        }
        THAW_CHECK(message.exit_container());
        THAW_CHECK(message.read("us", &flags, &cancellation));
        subject = fmt::format("{} {} {}", kind, key, name);
        action = asked;
        detail = fmt::format("{}={}", detail_key, detail_value);
        if (silent) {
            kept = std::move(message);
            return {};
        }
        return message.reply("(bba{ss})", int{authorized}, int{challenge}, 0U);
    }
};

constexpr sd_bus_vtable kPolkitVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD(
        "CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})",
        (bus_method<FakePolkit, &FakePolkit::method_check>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_VTABLE_END
};

// A service whose only method asks polkit.
struct Asked {
    Polkit* polkit = nullptr;
    std::string sender;
    unsigned decided = 0;

    Result<> method_do(BusMessage message) {
        sender = message.sender();
        polkit->authorize(
            message, "org.thaw.test1.do", {{"vm", "web"}},
            [this, message](Result<> allowed) mutable {
                ++decided;
                if (allowed)
                    (void)message.reply_empty();
                else
                    message.reply_error(allowed.error());
            }
        );
        return {};
    }
};

constexpr sd_bus_vtable kAskedVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("Do", "", "", (bus_method<Asked, &Asked::method_do>), SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END
};

// What the caller got.
enum Answer { kAllowed = 0, kDenied = 1, kNeedsAuthentication = 2, kOther = 3 };

pid_t call_as(uid_t uid, const std::string& address, bool interactive) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    close_range(3, ~0U, 0); // or the test's own connections would live on in here
    if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0) _exit(255);
    sd_bus* bus = nullptr;
    sd_bus_message* call = nullptr;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = sd_bus_new(&bus);
    if (r >= 0) r = sd_bus_set_address(bus, address.c_str());
    if (r >= 0) r = sd_bus_set_bus_client(bus, 1);
    if (r >= 0) r = sd_bus_start(bus);
    if (r >= 0)
        r = sd_bus_message_new_method_call(bus, &call, kPolkitTestName, kPath, kInterface, "Do");
    if (r >= 0) r = sd_bus_message_set_allow_interactive_authorization(call, interactive ? 1 : 0);
    if (r >= 0) r = sd_bus_call(bus, call, 0, &error, nullptr);
    if (r >= 0) _exit(kAllowed);
    if (sd_bus_error_has_name(&error, SD_BUS_ERROR_ACCESS_DENIED) > 0) _exit(kDenied);
    if (sd_bus_error_has_name(&error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED) > 0)
        _exit(kNeedsAuthentication);
    _exit(kOther);
}

class PolkitTest : public BusTest {
public:
    void SetUp() override {
        if (getuid() != 0) GTEST_SKIP() << "needs root to become another user";
        BusTest::SetUp();
        if (IsSkipped()) return;
        bus.emplace(connect());
        polkit.emplace(*bus);
        asked.polkit = &*polkit;
        auto made = bus->add_object(kPath, kInterface, kAskedVtable, &asked);
        ASSERT_TRUE(made);
        object = std::move(*made);
        ASSERT_TRUE(own(*bus, kPolkitTestName));
    }
    void start_polkit() {
        polkit_bus.emplace(connect());
        auto made = polkit_bus->add_object(
            "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
            kPolkitVtable, &fake
        );
        ASSERT_TRUE(made);
        polkit_object = std::move(*made);
        ASSERT_TRUE(own(*polkit_bus, "org.freedesktop.PolicyKit1"));
    }
    int wait_for(pid_t pid) {
        int status = -1;
        while (waitpid(pid, &status, WNOHANG) != pid)
            fakes::run_for(*loop, kUsecPerMsec);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    int ask(uid_t uid, bool interactive = false) {
        return wait_for(call_as(uid, daemon->address(), interactive));
    }

    std::optional<Bus> bus;
    std::optional<Polkit> polkit;
    Asked asked;
    BusSlot object;
    FakePolkit fake;
    std::optional<Bus> polkit_bus;
    BusSlot polkit_object;
};

TEST_F(PolkitTest, RootIsNeverAsked) {
    start_polkit();
    EXPECT_EQ(ask(0), kAllowed);
    EXPECT_EQ(fake.flags, 99U);
}

TEST_F(PolkitTest, WithoutPolkitOnlyRootMay) {
    EXPECT_EQ(ask(0), kAllowed);
    EXPECT_EQ(ask(kUnprivileged), kDenied);
    EXPECT_EQ(ask(kUnprivileged, true), kDenied);
}

TEST_F(PolkitTest, AuthorizedCallerMayAndTheQuestionIsComplete) {
    start_polkit();
    fake.authorized = true;
    EXPECT_EQ(ask(kUnprivileged), kAllowed);
    EXPECT_EQ(fake.subject, "system-bus-name name " + asked.sender);
    EXPECT_EQ(fake.action, "org.thaw.test1.do");
    EXPECT_EQ(fake.detail, "vm=web");
    EXPECT_EQ(fake.flags, 0U);
}

TEST_F(PolkitTest, InteractionIsAllowedOnlyWhenTheCallerSaysSo) {
    start_polkit();
    fake.authorized = true;
    EXPECT_EQ(ask(kUnprivileged, true), kAllowed);
    EXPECT_EQ(fake.flags, 1U);
}

TEST_F(PolkitTest, RefusalAndChallenge) {
    start_polkit();
    EXPECT_EQ(ask(kUnprivileged), kDenied);
    fake.challenge = true;
    EXPECT_EQ(ask(kUnprivileged), kNeedsAuthentication);
}

TEST_F(PolkitTest, PolkitThatDiesMeansNo) {
    start_polkit();
    fake.silent = true;
    const pid_t pid = call_as(kUnprivileged, daemon->address(), true);
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return static_cast<bool>(fake.kept); }));
    EXPECT_EQ(asked.decided, 0U);
    fake.kept = {};
    polkit_object.reset();
    polkit_bus.reset();
    EXPECT_EQ(wait_for(pid), kDenied);
}

TEST_F(PolkitTest, DroppedPolkitDecidesNothing) {
    start_polkit();
    fake.silent = true;
    const pid_t pid = call_as(kUnprivileged, daemon->address(), false);
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return static_cast<bool>(fake.kept); }));
    polkit.reset();
    ASSERT_TRUE(fake.kept.reply("(bba{ss})", 1, 0, 0U));
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_EQ(asked.decided, 0U);
    object.reset();
    bus.reset(); // ends the caller's wait
    EXPECT_EQ(wait_for(pid), kOther);
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
