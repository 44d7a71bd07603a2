// SPDX-License-Identifier: MIT
#pragma once

#include "fakes/bus_fixture.hpp"
#include "fakes/fake_systemd.hpp"
#include "systemd/manager_client.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <optional>

// What ASSERT_TRUE has checked is out of clang-tidy's sight; handlers have the signature they have.
// NOLINTBEGIN(bugprone-unchecked-optional-access, bugprone-unused-return-value)
// NOLINTBEGIN(performance-unnecessary-value-param)

namespace thaw::test {

// The client against the fake systemd on a real dbus-daemon, everything in one loop.
class SystemdTest : public BusTest {
public:
    static constexpr const char* kUnit = "thaw-firecracker@web.service";

    void SetUp() override {
        BusTest::SetUp();
        if (HasFatalFailure() || IsSkipped()) return;
        if (systemd_first()) start_systemd();
        bus.emplace(connect());
        client.emplace(*bus, *loop);
        ASSERT_TRUE(client->start());
        if (systemd_first()) {
            ASSERT_TRUE(until([&] { return systemd->subscribers() == 1; }));
        }
    }
    virtual bool systemd_first() const { return true; }

    void start_systemd() {
        auto fake = fakes::FakeSystemd::create(*loop, connect());
        ASSERT_TRUE(fake) << fake.error().message();
        systemd = std::move(*fake);
        systemd->add_unit(kUnit);
        ASSERT_TRUE(until([&] { return systemd->owns_name(); }));
    }
    template <class Condition>
    bool until(Condition condition) {
        return fakes::run_until(*loop, condition);
    }

    // Keeps an operation and its result.
    struct Outcome {
        SystemdHandle handle;
        std::optional<Result<std::string>> result;
        // "done", "error org...": one word to compare with.
        std::string word() const {
            if (!result) return "pending";
            if (*result) return **result;
            const auto name = result->error().bus_name();
            return name.empty() ? "error" : "error " + std::string(name);
        }
    };
    std::unique_ptr<Outcome> start_unit(const std::string& unit = kUnit) {
        auto outcome = std::make_unique<Outcome>();
        outcome->handle = client->start_unit(unit, "fail", keep(*outcome));
        EXPECT_FALSE(outcome->result) << "called from inside start_unit()";
        return outcome;
    }
    std::unique_ptr<Outcome> stop_unit(const std::string& unit = kUnit) {
        auto outcome = std::make_unique<Outcome>();
        outcome->handle = client->stop_unit(unit, "replace", keep(*outcome));
        EXPECT_FALSE(outcome->result) << "called from inside stop_unit()";
        return outcome;
    }
    std::string finish(const std::unique_ptr<Outcome>& outcome) {
        until([&] { return outcome->result.has_value(); });
        return outcome->word();
    }
    std::optional<UnitState> read(const std::string& unit = kUnit) {
        std::optional<Result<UnitState>> state;
        auto handle = client->read_unit(unit, [&](Result<UnitState> s) { state = std::move(s); });
        until([&] { return state.has_value(); });
        if (!state || !*state) return std::nullopt;
        return **state;
    }

    std::unique_ptr<fakes::FakeSystemd> systemd;
    std::optional<Bus> bus;
    std::optional<SystemdClient> client;

private:
    static SystemdClient::JobHandler keep(Outcome& outcome) {
        return [&outcome](Result<std::string> r) {
            EXPECT_FALSE(outcome.result) << "told twice";
            outcome.result = std::move(r);
        };
    }
};

} // namespace thaw::test

// NOLINTEND(performance-unnecessary-value-param)
// NOLINTEND(bugprone-unchecked-optional-access, bugprone-unused-return-value)
