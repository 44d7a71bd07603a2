// SPDX-License-Identifier: MIT
#pragma once

// The real thawctl against a private bus with a fake daemon on it.

#include "fakes/private_bus.hpp"
#include "program.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace thaw::ctl::testing {

// Fake: constructible from a Bus and its EventLoop.
template <class Fake>
class VerbTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto bus = fakes::PrivateBus::start();
        if (!bus && bus.error().code() == ENOENT) GTEST_SKIP() << "no dbus-daemon";
        ASSERT_TRUE(bus) << bus.error().message();
        daemon_ = std::move(*bus);
        daemon_->use_as_system_bus();
        auto loop = EventLoop::create();
        ASSERT_TRUE(loop);
        loop_ = std::make_unique<EventLoop>(std::move(*loop));
        auto connection = daemon_->connect(*loop_);
        ASSERT_TRUE(connection);
        connection_ = std::make_unique<Bus>(std::move(*connection));
        fake_ = std::make_unique<Fake>(*connection_, *loop_);
    }
    void TearDown() override {
        fake_.reset();
        connection_.reset();
    }
    ProgramResult run(const std::vector<std::string>& words, const ProgramOptions& options = {}) {
        return run_thawctl(loop_.get(), words, options);
    }

    std::unique_ptr<fakes::PrivateBus> daemon_;
    std::unique_ptr<EventLoop> loop_;
    std::unique_ptr<Bus> connection_;
    std::unique_ptr<Fake> fake_;
};

} // namespace thaw::ctl::testing
