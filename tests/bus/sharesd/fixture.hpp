// SPDX-License-Identifier: MIT
#pragma once

// The real thaw-sharesd on a private bus, with a scripted systemd that starts processes in place of
// virtiofsd. The tests have a /run of their own (sandbox_main.cpp).

#include "api/shares1.hpp"
#include "daemon_process.hpp"
#include "fakes/fake_systemd.hpp"
#include "fakes/private_bus.hpp"
#include "fakes/run_until.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::sharesd {

struct Reply {
    std::string error; // without org.thaw.shares1.Error., "" for success
    std::string text;
    BusMessage message;
};

class SharesdTest : public ::testing::Test {
protected:
    static constexpr const char* kSource = "/run/source";
    static constexpr std::uint64_t kLimit = 256; // 240 of it the guest's, for dialect c

    void SetUp() override;
    void TearDown() override;

    void configure(const std::string& lines);
    // What it logged, and nothing else.
    static std::string log();
    void start_daemon();
    void kill_daemon();

    using Options = std::function<Result<>(BusMessage&)>; // appends {sv} entries
    Reply add(const std::string& tag = "tag", const Options& options = {});
    Reply remove(const std::string& tag = "tag");
    Reply call(
        const std::string& path, const char* interface, const char* member,
        const std::function<Result<>(BusMessage&)>& fill = {}
    );
    Reply call_share(
        const char* member, const std::function<Result<>(BusMessage&)>& fill = {},
        const std::string& tag = "tag"
    );
    std::string text(const char* property, const std::string& tag = "tag");
    std::uint64_t number(const char* property, const std::string& tag = "tag");
    bool wait_text(const char* property, const std::string& value, const std::string& tag = "tag");

    static std::string service(const std::string& tag = "tag");
    static std::string socket(const std::string& tag = "tag");
    // No unit runs and no file is left of the share.
    void expect_clean(const std::string& tag = "tag");
    // The daemon of a share ends, as systemd would report it.
    void
    end_daemon(const std::string& result, int code, int status, const std::string& tag = "tag");

    bool until(const std::function<bool()>& condition, Microseconds limit = 10 * kUsecPerSec) {
        return fakes::run_until(*loop_, condition, limit);
    }

    std::optional<EventLoop> loop_;
    std::unique_ptr<fakes::PrivateBus> private_bus_;
    std::unique_ptr<fakes::FakeSystemd> systemd_;
    std::optional<Bus> bus_;
    std::map<std::string, std::unique_ptr<DaemonProcess>> processes_; // by unit
    std::string bound_source_ = kSource;                              // what systemd really binds
    std::uint64_t given_limit_ = kLimit;                              // what systemd really gives
    std::vector<std::string> levels_;  // "old>new" of each LevelChanged, "memory:" before its own
    std::vector<std::string> signals_; // of the manager, and Lost

private:
    void start_systemd();
    void start_client();
    std::vector<BusSlot> slots_;
    bool owned_ = false;
    pid_t daemon_ = -1;
};

} // namespace thaw::sharesd
