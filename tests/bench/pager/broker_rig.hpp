// SPDX-License-Identifier: MIT
#pragma once

// The real thaw-pagerd with real workers, on a bus of its own, under a stand-in for PID 1 that
// keeps its descriptors and starts it again 10 ms after it died (RestartSec= of its unit). What the
// real PID 1 needs on top of that is in tests/bench/run.

#include "bus/bus.hpp"
#include "fakes/fake_systemd.hpp"
#include "fakes/private_bus.hpp"
#include "fakes/run_until.hpp"
#include "fakes/store_keeper.hpp"
#include "guest_process.hpp"
#include "protocol/fetch_control.hpp"

#include <memory>
#include <optional>
#include <string>

namespace thaw::bench {

class BrokerRig {
public:
    // `config`: lines more of [Pager].
    explicit BrokerRig(const std::string& config = "");
    BrokerRig(const BrokerRig&) = delete;
    BrokerRig& operator=(const BrokerRig&) = delete;
    ~BrokerRig();

    // A session of that name; returns when CreateSession is answered. `memory` instead of the
    // image's own descriptor when not -1.
    void create(const std::string& name, const Image& image, int memory = -1);
    // The same, of an image whose memory is behind a URL.
    void create_remote(
        const std::string& name, const Image& image, const std::string& url,
        const protocol::SourceIdentity& identity
    );
    // One number of org.thaw.pager1.Cache.
    std::uint64_t cache_number(const char* property);
    // Its VMM, served when this returns.
    std::unique_ptr<GuestProcess> start(const std::string& name, GuestProcess::Setup setup);
    // The guest's end and the session's.
    void end(const std::string& name, std::unique_ptr<GuestProcess> guest);

    pid_t pid() const { return daemon_; }
    pid_t worker(const std::string& name);
    void kill(bool broker, pid_t worker);
    EventLoop& loop() { return *loop_; }
    void run_for(Microseconds duration) { fakes::run_for(*loop_, duration); }

private:
    void spawn();
    BusMessage call(BusMessage message, const char* what);
    void until(const std::function<bool()>& condition, const char* what);
    std::string socket_of(const std::string& name) const;

    std::optional<EventLoop> loop_;
    std::unique_ptr<fakes::PrivateBus> bus_daemon_;
    std::optional<Bus> bus_;
    std::unique_ptr<fakes::FakeSystemd> systemd_;
    std::unique_ptr<fakes::StoreKeeper> keeper_;
    std::string runtime_;
    Fd control_;
    Fd log_;
    pid_t daemon_ = -1;
    EventSource heartbeat_; // conditions that no event announces are looked at every millisecond
    EventSource restart_;
};

} // namespace thaw::bench
