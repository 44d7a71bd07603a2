// SPDX-License-Identifier: MIT
#pragma once

// What the parts of the supervisor share. Everything outlives every share.

#include "bus/bus.hpp"
#include "config.hpp"
#include "log_watch.hpp"
#include "proc_reader.hpp"
#include "records.hpp"
#include "systemd/manager_client.hpp"

#include <set>
#include <string>

namespace thaw::sharesd {

// Who is connected to which socket; one look serves all shares for a moment.
class ConnectionTable {
public:
    // False also when it cannot be read: then the daemon's own words have to do.
    bool is_connected(const std::string& socket);

private:
    Microseconds read_at_ = 0;
    std::set<std::string> sockets_;
};

struct Context {
    EventLoop& loop;
    Bus& bus;
    SystemdClient& systemd;
    const Config& config;
    const RecordStore& records;
    CountMethod method;
    std::uint64_t nr_open;
    ConnectionTable& connections;
    LogWatch* log = nullptr; // what the daemons say, where it can be heard
};

} // namespace thaw::sharesd
