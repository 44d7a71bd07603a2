// SPDX-License-Identifier: MIT
#include "bus/errors.hpp"
#include "bus/vtable.hpp"
#include "fakes/bus_fixture.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <vector>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

constexpr const char* kName = "org.thaw.test1";
constexpr uid_t kOtherUid = 65534; // nobody: dbus-daemon turns away whom it cannot look up

class Names : public BusTest {};

TEST_F(Names, TheSecondToAskIsRefused) {
    auto first = connect(), second = connect();
    EXPECT_TRUE(own(first, kName));
    EXPECT_TRUE(own(first, kName)) << "asking again is no error";
    auto refused = own(second, kName);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), EEXIST);
}

TEST_F(Names, BadNameIsAnError) {
    auto bus = connect();
    EXPECT_FALSE(own(bus, "no-dot"));
}

TEST_F(Names, WatcherHearsTheStartAndEveryChange) {
    auto watcher = connect();
    std::vector<bool> heard;
    auto slot = watcher.watch_name(kName, [&](bool owned) { heard.push_back(owned); });
    ASSERT_TRUE(slot);
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return heard.size() == 1; }));
    EXPECT_FALSE(heard[0]);
    {
        auto owner = connect();
        ASSERT_TRUE(own(owner, kName));
        ASSERT_TRUE(fakes::run_until(*loop, [&] { return heard.size() == 2; }));
        EXPECT_TRUE(heard[1]);
    }
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return heard.size() == 3; }));
    EXPECT_FALSE(heard[2]);
}

TEST_F(Names, WatcherOfAnOwnedNameHearsTrueOnce) {
    auto owner = connect(), watcher = connect();
    ASSERT_TRUE(own(owner, kName));
    std::vector<bool> heard;
    auto slot = watcher.watch_name(kName, [&](bool owned) { heard.push_back(owned); });
    ASSERT_TRUE(slot);
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return !heard.empty(); }));
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_EQ(heard, std::vector<bool>{true});
}

TEST_F(Names, WatcherMayDropItselfInItsCallback) {
    auto watcher = connect(), owner = connect();
    BusSlot slot;
    unsigned heard = 0;
    auto made = watcher.watch_name(kName, [&](bool) {
        slot.reset();
        ++heard;
    });
    ASSERT_TRUE(made);
    slot = std::move(*made);
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return heard > 0; }));
    ASSERT_TRUE(own(owner, kName));
    fakes::run_for(*loop, 50 * kUsecPerMsec);
    EXPECT_EQ(heard, 1U);
}

// A signal sent to us alone passes the bus whatever our match says; only the driver's counts.
TEST_F(Names, ForgedOwnerChangeIsIgnored) {
    auto watcher = connect(), liar = connect();
    std::vector<bool> heard;
    auto slot = watcher.watch_name(kName, [&](bool owned) { heard.push_back(owned); });
    ASSERT_TRUE(slot);
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return heard.size() == 1; }));
    const char* target = nullptr;
    ASSERT_GE(sd_bus_get_unique_name(watcher.get(), &target), 0);
    sd_bus_message* forged = nullptr;
    ASSERT_GE(
        sd_bus_message_new_signal(
            liar.get(), &forged, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged"
        ),
        0
    );
    ASSERT_GE(sd_bus_message_append(forged, "sss", kName, "", ":1.1"), 0);
    ASSERT_GE(sd_bus_message_set_destination(forged, target), 0);
    ASSERT_GE(sd_bus_send(nullptr, forged, nullptr), 0);
    sd_bus_message_unref(forged);
    fakes::run_for(*loop, 100 * kUsecPerMsec);
    EXPECT_EQ(heard, std::vector<bool>{false});
}

TEST_F(Names, WatchWorksWhileTheBusGoesAway) {
    auto watcher = connect();
    std::vector<bool> heard;
    bool disconnected = false;
    auto slot = watcher.watch_name(kName, [&](bool owned) { heard.push_back(owned); });
    auto local = watcher.match_signal(
        "", "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local", "Disconnected",
        [&](BusMessage&) { disconnected = true; }
    );
    ASSERT_TRUE(slot && local);
    daemon->kill();
    EXPECT_TRUE(fakes::run_until(*loop, [&] { return disconnected; }));
}

// ---- who calls ------------------------------------------------------------------------------

struct Guarded {
    BusMessage last;
    unsigned privileged_calls = 0;
    Result<> method_open(BusMessage message) {
        last = message;
        return message.reply_empty();
    }
    Result<> method_closed(BusMessage message) {
        ++privileged_calls;
        return message.reply_empty();
    }
};

constexpr sd_bus_vtable kGuardedVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD(
        "Open", "", "", (bus_method<Guarded, &Guarded::method_open>), SD_BUS_VTABLE_UNPRIVILEGED
    ),
    SD_BUS_METHOD("Closed", "", "", (bus_method<Guarded, &Guarded::method_closed>), 0),
    SD_BUS_VTABLE_END
};

// Calls as another user, in a process of its own; the exit code is the errno of the answer.
pid_t call_as(uid_t uid, const std::string& address, const char* member) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    close_range(3, ~0U, 0); // or the test's own connections would live on in here
    sd_bus* bus = nullptr;
    if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0) _exit(255);
    int r = sd_bus_new(&bus);
    if (r >= 0) r = sd_bus_set_address(bus, address.c_str());
    if (r >= 0) r = sd_bus_set_bus_client(bus, 1);
    if (r >= 0) r = sd_bus_start(bus);
    if (r >= 0)
        r = sd_bus_call_method(
            bus, kName, "/org/thaw/test1", "org.thaw.test1.Guarded", member, nullptr, nullptr, ""
        );
    _exit(r < 0 ? -r : 0);
}

class Callers : public BusTest {
public:
    void SetUp() override {
        if (getuid() != 0) GTEST_SKIP() << "needs root to become another user";
        BusTest::SetUp();
        if (IsSkipped()) return;
        bus.emplace(connect());
        auto made =
            bus->add_object("/org/thaw/test1", "org.thaw.test1.Guarded", kGuardedVtable, &guarded);
        ASSERT_TRUE(made);
        object = std::move(*made);
        ASSERT_TRUE(own(*bus, kName));
    }
    int answer_to(uid_t uid, const char* member) {
        const pid_t pid = call_as(uid, daemon->address(), member);
        int status = -1;
        while (waitpid(pid, &status, WNOHANG) != pid)
            fakes::run_for(*loop, kUsecPerMsec);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    std::optional<Bus> bus;
    Guarded guarded;
    BusSlot object;
};

TEST_F(Callers, SenderUidIsTheCallers) {
    EXPECT_EQ(answer_to(kOtherUid, "Open"), 0);
    // The caller is gone by now, and the bus knows it no more: no uid rather than a wrong one.
    auto gone = guarded.last.sender_uid();
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().code(), EACCES);

    auto caller = connect();
    std::optional<Result<uid_t>> uid;
    auto slot = caller.call(
        caller.new_call(kName, "/org/thaw/test1", "org.thaw.test1.Guarded", "Open"),
        [&](Result<BusMessage> reply) {
            ASSERT_TRUE(reply);
            uid = guarded.last.sender_uid();
        }
    );
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return uid.has_value(); }));
    ASSERT_TRUE(*uid);
    EXPECT_EQ(**uid, getuid());
}

TEST_F(Callers, PrivilegedMemberRefusesOthers) {
    EXPECT_EQ(answer_to(0, "Closed"), 0);
    EXPECT_EQ(answer_to(kOtherUid, "Closed"), EACCES);
    EXPECT_EQ(guarded.privileged_calls, 1U);
}

class SystemPolicy : public BusTest {
public:
    fakes::PrivateBus::Options options() override { return {.policy = ""}; }
};

TEST_F(SystemPolicy, WithoutPolicyNobodyOwnsANameAndNobodyIsCalled) {
    auto bus = connect();
    auto refused = own(bus, kName);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), EACCES);
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
