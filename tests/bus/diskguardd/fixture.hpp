// SPDX-License-Identifier: MIT
#pragma once

// The real thaw-diskguardd on a private bus, with a fake systemd, a descriptor store that outlives
// it, and small file systems of the test's own.

#include "api/diskguard1.hpp"
#include "bus/bus.hpp"
#include "fakes/fake_systemd.hpp"
#include "fakes/private_bus.hpp"
#include "fakes/run_until.hpp"
#include "fakes/store_keeper.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::diskguard {

struct Reply {
    std::string error; // D-Bus error name, empty: success
    std::string text;  // its message
    BusMessage message;
};

class DiskguardTest : public testing::Test {
protected:
    static constexpr std::uint64_t kMiB = 1 << 20;
    static constexpr std::uint64_t kVolume = 128 * kMiB;
    static constexpr std::uint64_t kReserve = 16 * kMiB; // two chunks
    static constexpr const char* kMount = "/run/guarded";

    void SetUp() override;
    void TearDown() override;

    // ---- the file system
    static void mount_volume(std::uint64_t bytes = kVolume);
    // Fails when a descriptor of the daemon's pins it.
    static bool unmount_volume();
    static std::uint64_t free_bytes();
    // Makes or grows a file until so much is free.
    static void fill_until(std::uint64_t free);
    static void empty();
    static unsigned chunks_on_disk();

    // ---- the daemon
    // Fast settings for tests; `lines` come after them in section [Policy].
    void write_config(const std::string& lines = "", const std::string& guard = "");
    void start_daemon();
    void kill_daemon(int signal = 9);
    pid_t daemon_pid() const { return daemon_; }

    // ---- the bus
    Reply call(BusMessage message);
    BusMessage new_call(const std::string& member) const;
    Reply get(const char* property);
    std::string text(const char* property);
    std::uint64_t number(const char* property);
    std::string object() const;
    bool wait_text(const char* property, const std::string& value);
    bool wait_armed() { return wait_text("State", "armed"); }
    Reply release(std::uint64_t bytes = 0);
    // An invalid descriptor when it was refused; `error` says how.
    Fd reserve(std::uint64_t bytes, Reply* answer = nullptr, const char* volume = kMount);
    std::uint64_t can_fit(std::uint64_t bytes, bool* fits = nullptr);
    std::size_t leases();

    template <class Condition>
    bool until(Condition condition, Microseconds limit = 15 * kUsecPerSec) {
        return fakes::run_until(*loop_, condition, limit);
    }

    std::optional<EventLoop> loop_;
    std::unique_ptr<fakes::PrivateBus> bus_daemon_;
    std::optional<Bus> bus_;
    std::unique_ptr<fakes::FakeSystemd> systemd_;
    std::unique_ptr<fakes::StoreKeeper> keeper_;
    std::vector<std::string> levels_;  // "before>after" of each LevelChanged
    std::vector<std::string> actions_; // of each ActionTaken
    std::vector<std::string> volumes_; // "+" and "-" of VolumeNew and VolumeRemoved
    bool pass_stored_ = true;

private:
    void start_systemd();
    void watch_signals();
    pid_t daemon_ = -1;
    std::string id_;
    EventSource heartbeat_; // conditions that no event announces are looked at every few ms
    std::vector<BusSlot> matches_;
};

} // namespace thaw::diskguard
