// SPDX-License-Identifier: MIT
#pragma once

// thaw-pagerd as systemd runs it, with a private bus, a fake systemd, a descriptor store that
// outlives it, and real workers, userfaultfds and guests.

#include "bus/bus.hpp"
#include "fakes/fake_systemd.hpp"
#include "fakes/private_bus.hpp"
#include "fakes/run_until.hpp"
#include "fakes/store_keeper.hpp"
#include "vmm_process.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thaw::pagerd {

struct Reply {
    std::string error; // D-Bus error name, empty: success
    BusMessage message;
};

class PagerdTest : public testing::Test {
protected:
    static constexpr std::uint64_t kMemory = 4 << 20;
    static constexpr std::uint64_t kPages = kMemory / 4096;

    void SetUp() override;
    void TearDown() override;

    void start_systemd();

    // ---- the daemon
    // Starts it with the control socket and what the keeper has; waits for READY=1.
    void start_daemon();
    void spawn_daemon();
    void kill_daemon(int signal = 9);
    // Descriptors the daemon holds.
    std::size_t daemon_fds() const;
    void write_config(const std::string& lines);
    pid_t daemon_pid() const { return daemon_; }

    // ---- the bus
    Reply call(BusMessage message);
    BusMessage new_call(const std::string& member) const;
    BusMessage create_call(const std::string& name, const std::string& unit) const;
    // CreateSession with the test's image; the error name.
    std::string create(const std::string& name);
    std::string close(const std::string& name);
    std::string text(const std::string& name, const char* property);
    std::uint64_t number(const std::string& name, const char* property, char type = 'u');
    bool flag(const std::string& name, const char* property);
    std::size_t sessions();
    bool wait_state(const std::string& name, const std::string& state);
    static std::string path_of(const std::string& name);
    std::string socket_of(const std::string& name) const;
    static std::string unit_of(const std::string& name) {
        return "thaw-firecracker@" + name + ".service";
    }

    // ---- VMMs
    VmmBehaviour behaviour(const std::string& name) const;
    // Forks one that belongs to the session's unit.
    VmmProcess make_vmm(const std::string& name) { return make_vmm(name, behaviour(name)); }
    VmmProcess make_vmm(const std::string& name, VmmBehaviour how);
    // Waits for a command's answer while the loop runs.
    bool answer(VmmProcess& vmm, Microseconds limit = 10 * kUsecPerSec);
    bool check_pages(VmmProcess& vmm, std::uint64_t first, std::uint64_t count);
    // Create, connect, serving.
    VmmProcess serve(const std::string& name);

    template <class Condition>
    bool until(Condition condition, Microseconds limit = 10 * kUsecPerSec) {
        return fakes::run_until(
            *loop_,
            [&] {
                tick_ = false;
                return condition();
            },
            limit
        );
    }
    // Workers are killed at the end whatever happens.
    void remember_worker(pid_t pid) { workers_.push_back(pid); }

    std::optional<EventLoop> loop_;
    std::unique_ptr<fakes::PrivateBus> bus_daemon_;
    std::optional<Bus> bus_;
    std::unique_ptr<fakes::FakeSystemd> systemd_;
    std::unique_ptr<fakes::StoreKeeper> keeper_;
    std::string runtime_;
    Fd image_;
    Fd control_;
    std::vector<std::string> removed_; // "name:result" of each SessionRemoved
    std::vector<std::string> added_;
    bool pass_stored_ = true;

private:
    pid_t daemon_ = -1;
    bool tick_ = false;
    EventSource heartbeat_; // conditions that no event announces are looked at every few ms
    BusSlot removed_match_;
    BusSlot added_match_;
    std::vector<pid_t> workers_;
};

} // namespace thaw::pagerd
