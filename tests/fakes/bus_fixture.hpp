// SPDX-License-Identifier: MIT
#pragma once

#include "fakes/private_bus.hpp"
#include "fakes/run_until.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <optional>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {

// A real dbus-daemon and connections to it, in one loop.
class BusTest : public ::testing::Test {
public:
    void SetUp() override {
        auto made = EventLoop::create();
        ASSERT_TRUE(made);
        loop.emplace(std::move(*made));
        auto started = fakes::PrivateBus::start(options());
        if (!started && started.error().code() == ENOENT) GTEST_SKIP() << "no dbus-daemon";
        ASSERT_TRUE(started) << started.error().message();
        daemon = std::move(*started);
    }
    virtual fakes::PrivateBus::Options options() { return {}; }

    Bus connect() {
        auto bus = daemon->connect(*loop);
        EXPECT_TRUE(bus) << bus.error().message();
        return std::move(*bus);
    }
    // Owns a name and waits for the answer.
    Result<> own(Bus& bus, const std::string& name) {
        std::optional<Result<>> answer;
        auto slot = bus.request_name(name, [&](Result<> done) { answer = std::move(done); });
        if (!fakes::run_until(*loop, [&] { return answer.has_value(); }))
            return fail(ETIMEDOUT, "no answer in the test");
        return std::move(*answer);
    }

    std::optional<EventLoop> loop;
    std::unique_ptr<fakes::PrivateBus> daemon;
};

} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
