// SPDX-License-Identifier: MIT
#pragma once

#include "echo_object.hpp"
#include "fakes/peer_bus.hpp"
#include "fakes/run_until.hpp"

#include <gtest/gtest.h>

#include <optional>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {

// A server with one Echo object and a client, in one loop.
class PeerTest : public ::testing::Test {
public:
    void SetUp() override {
        register_bus_errors(kTestErrors);
        auto made = EventLoop::create();
        ASSERT_TRUE(made);
        loop.emplace(std::move(*made));
        auto pair = fakes::PeerBus::create(*loop);
        ASSERT_TRUE(pair) << pair.error().message();
        bus.emplace(std::move(*pair));
        auto slot = bus->server.add_object(kObject, kEchoInterface, kEchoVtable, &echo);
        ASSERT_TRUE(slot);
        object = std::move(*slot);
    }

    Result<BusMessage> echo_call(const char* member) const {
        return bus->client.new_call("", kObject, kEchoInterface, member);
    }
    Result<BusMessage> say(const char* text) const {
        auto message = echo_call("Say");
        if (message) THAW_CHECK(message->append("s", text));
        return message;
    }
    // Sends and waits.
    Result<BusMessage> ask(Result<BusMessage> message) {
        std::optional<Result<BusMessage>> answer;
        auto slot = bus->client.call(std::move(message), [&](Result<BusMessage> reply) {
            answer = std::move(reply);
        });
        if (!fakes::run_until(*loop, [&] { return answer.has_value(); }))
            return fail(ETIMEDOUT, "no answer in the test");
        return std::move(*answer);
    }

    static constexpr const char* kObject = "/org/thaw/test1";
    std::optional<EventLoop> loop;
    std::optional<fakes::PeerBus> bus;
    Echo echo;
    BusSlot object;
};

} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
