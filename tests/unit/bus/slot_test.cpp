// SPDX-License-Identifier: MIT
#include "peer_fixture.hpp"

#include <fcntl.h>
#include <poll.h>

#include <memory>
#include <vector>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {
namespace {

class Slot : public PeerTest {
public:
    Result<> ring(const char* who) {
        return bus->server.emit_signal(kObject, kEchoInterface, "Rang", "s", who);
    }
};

TEST_F(Slot, DroppedCallIsNeverAnswered) {
    unsigned answers = 0;
    auto dropped = bus->client.call(say("a"), [&](Result<BusMessage>) { ++answers; });
    dropped.reset();
    EXPECT_FALSE(dropped);
    ASSERT_TRUE(ask(say("b"))); // the answer to "a" came before this one
    EXPECT_EQ(answers, 0U);
    EXPECT_EQ(echo.calls, 2U) << "the call itself was sent";
}

TEST_F(Slot, OverwrittenSlotIsDropped) {
    unsigned first = 0, second = 0;
    auto slot = bus->client.call(say("a"), [&](Result<BusMessage>) { ++first; });
    slot = bus->client.call(say("b"), [&](Result<BusMessage>) { ++second; });
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return second > 0; }));
    EXPECT_EQ(first, 0U);
}

// The callback's own captures must stay usable after the handle is gone.
TEST_F(Slot, CallbackMayDropItsOwnCall) {
    BusSlot slot;
    auto token = std::make_shared<int>(7);
    const std::weak_ptr<int> watch = token;
    int seen = 0;
    slot = bus->client.call(say("a"), [&slot, &seen, token = std::move(token)](Result<BusMessage>) {
        slot.reset();
        seen = *token;
    });
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return seen != 0; }));
    EXPECT_EQ(seen, 7);
    EXPECT_TRUE(watch.expired()) << "the callback is freed with its slot";
}

TEST_F(Slot, CallbackMayOwnItsSlotThroughAnObject) {
    struct Owner {
        BusSlot slot;
        int value = 42;
    };
    auto* owner = new Owner;
    int seen = 0;
    owner->slot = bus->client.call(say("a"), [owner, &seen](Result<BusMessage>) {
        seen = owner->value;
        delete owner;
    });
    EXPECT_TRUE(fakes::run_until(*loop, [&] { return seen == 42; }));
}

TEST_F(Slot, CallbackMayDropAnotherPendingCall) {
    unsigned second = 0;
    BusSlot later;
    bool done = false;
    auto first = bus->client.call(say("a"), [&](Result<BusMessage>) {
        later.reset();
        done = true;
    });
    later = bus->client.call(say("b"), [&](Result<BusMessage>) { ++second; });
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return done; }));
    ASSERT_TRUE(ask(say("c")));
    EXPECT_EQ(second, 0U);
}

TEST_F(Slot, FailureToBuildOrSendComesFromTheLoop) {
    std::optional<Error> built, sent;
    auto bad = bus->client.call(
        bus->client.new_call("", "not a path", kEchoInterface, "Say"),
        [&](Result<BusMessage> reply) { built = reply.error(); }
    );
    EXPECT_FALSE(built) << "called from inside call()";
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return built.has_value(); }));
    EXPECT_EQ(built->code(), EINVAL);

    auto message = say("late");
    sd_bus_close(bus->client.get());
    auto slot = bus->client.call(std::move(message), [&](Result<BusMessage> reply) {
        ASSERT_FALSE(reply);
        sent = reply.error();
    });
    EXPECT_FALSE(sent) << "called from inside call()";
    ASSERT_TRUE(slot);
    // A closed sd-bus has left the loop, but its defer source has not.
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return sent.has_value(); }));
    EXPECT_EQ(sent->code(), ENOTCONN);
}

TEST_F(Slot, DroppedFailureIsNotDelivered) {
    unsigned answers = 0;
    auto slot = bus->client.call(fail(EINVAL, "x"), [&](Result<BusMessage>) { ++answers; });
    slot.reset();
    fakes::run_for(*loop, 10 * kUsecPerMsec);
    EXPECT_EQ(answers, 0U);
}

TEST_F(Slot, CallTimesOut) {
    std::optional<Result<BusMessage>> answer;
    auto slot = bus->client.call(
        echo_call("Keep"), [&](Result<BusMessage> reply) { answer = std::move(reply); },
        20 * kUsecPerMsec
    );
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return answer.has_value(); }));
    ASSERT_FALSE(*answer);
    EXPECT_EQ(answer->error().code(), ETIMEDOUT);
}

TEST_F(Slot, PendingCallEndsWhenThePeerLeaves) {
    std::optional<Result<BusMessage>> answer;
    auto slot = bus->client.call(echo_call("Keep"), [&](Result<BusMessage> reply) {
        answer = std::move(reply);
    });
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return static_cast<bool>(echo.kept); }));
    echo.kept = {};
    object.reset();
    sd_bus_close(bus->server.get());
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return answer.has_value(); }));
    EXPECT_FALSE(*answer);
}

TEST_F(Slot, SignalsReachEveryMatchFromTheBeginning) {
    std::vector<std::string> one, two;
    auto reader = [](std::vector<std::string>& into) {
        return [&into](BusMessage& message) {
            const char* who = nullptr;
            if (message.read("s", &who)) into.emplace_back(who);
        };
    };
    auto first = bus->client.match_signal("", kObject, kEchoInterface, "Rang", reader(one));
    auto second = bus->client.match_signal("", "", kEchoInterface, "", reader(two));
    ASSERT_TRUE(first && second);
    ASSERT_TRUE(ring("bob"));
    ASSERT_TRUE(fakes::run_until(*loop, [&] { return !one.empty() && !two.empty(); }));
    EXPECT_EQ(one, std::vector<std::string>{"bob"});
    EXPECT_EQ(two, one);
}

TEST_F(Slot, CallbackMayDropItsOwnMatch) {
    Result<BusSlot> match = BusSlot();
    unsigned heard = 0;
    match = bus->client.match_signal("", kObject, kEchoInterface, "Rang", [&](BusMessage&) {
        *match = BusSlot();
        ++heard;
    });
    ASSERT_TRUE(match);
    ASSERT_TRUE(ring("a"));
    ASSERT_TRUE(ring("b"));
    ASSERT_TRUE(ask(say("x")));
    EXPECT_EQ(heard, 1U);
}

// Anybody may send a signal that looks like the driver's; here even without a sender.
TEST_F(Slot, DriverSignalsOfOthersAreNotBelieved) {
    unsigned heard = 0;
    auto match = bus->client.match_signal(
        "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameLost",
        [&](BusMessage&) { ++heard; }
    );
    ASSERT_TRUE(match);
    sd_bus_message* forged = nullptr;
    ASSERT_GE(
        sd_bus_message_new_signal(
            bus->server.get(), &forged, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameLost"
        ),
        0
    );
    ASSERT_GE(sd_bus_message_set_sender(forged, ":1.66"), 0);
    ASSERT_GE(sd_bus_message_append(forged, "s", "org.thaw.test1"), 0);
    ASSERT_GE(sd_bus_send(nullptr, forged, nullptr), 0);
    sd_bus_message_unref(forged);
    ASSERT_TRUE(ask(say("x")));
    EXPECT_EQ(heard, 0U);
}

TEST_F(Slot, DestroyedBusSendsWhatIsQueued) {
    unsigned heard = 0;
    auto match = bus->client.match_signal("", kObject, kEchoInterface, "Rang", [&](BusMessage&) {
        ++heard;
    });
    ASSERT_TRUE(match);
    ASSERT_TRUE(ask(say("x"))); // both ends are connected
    for (int i = 0; i < 100; ++i)
        ASSERT_TRUE(ring("bob"));
    object.reset();
    {
        const Bus gone = std::move(bus->server);
    }
    EXPECT_TRUE(fakes::run_until(*loop, [&] { return heard == 100; })) << heard;
}

TEST_F(Slot, DestructionDoesNotWaitForEverForAStuckPeer) {
    ASSERT_TRUE(ask(say("x")));
    const std::string big(100000, 'x');
    // More than the socket holds; nobody turns the client's side.
    std::uint64_t queued = 0;
    for (int i = 0; i < 2000 && queued < 10; ++i) {
        ASSERT_TRUE(ring(big.c_str()));
        ASSERT_GE(sd_bus_get_n_queued_write(bus->server.get(), &queued), 0);
    }
    ASSERT_GE(queued, 10U);
    unsigned answers = 0;
    auto pending = bus->server.call(
        bus->server.new_call("", "/x", "org.thaw.test1.X", "X"),
        [&](Result<BusMessage>) { ++answers; }, 100 * kUsecPerMsec
    );
    object.reset();
    const auto before = now_monotonic();
    {
        const Bus gone = std::move(bus->server);
    }
    EXPECT_LT(now_monotonic() - before, 3 * kUsecPerSec);
    EXPECT_EQ(answers, 0U) << "a callback ran in the destructor";
}

} // namespace
} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
