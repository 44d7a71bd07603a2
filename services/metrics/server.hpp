// SPDX-License-Identifier: MIT
#pragma once

// Answers scrapers on the socket that systemd handed over, some at a time, and ends when nobody
// came for a while: the socket starts it again.

#include "collector.hpp"
#include "core/fd.hpp"
#include "event/event.hpp"

#include <list>
#include <memory>
#include <string>

namespace thaw::metrics {

class Server {
public:
    static constexpr std::size_t kMostConnections = 16;
    static constexpr Microseconds kIdle = 30 * kUsecPerSec;
    // From accept to the last byte of the answer.
    static constexpr Microseconds kConnectionLimit = 10 * kUsecPerSec;

    Server(EventLoop& loop, Bus& bus, Fd listener)
        : loop_(loop), bus_(bus), listener_(std::move(listener)) {}
    Result<> start();

private:
    struct Connection {
        Fd fd;
        std::string received;
        std::string answer;
        std::size_t sent = 0;
        EventSource io;
        EventSource deadline;
        std::unique_ptr<Collector> collector;
    };
    using Position = std::list<Connection>::iterator;

    void on_connection();
    void on_readable(Position connection);
    void on_writable(Position connection);
    void respond(Position connection, std::string answer);
    void close(Position connection);

    EventLoop& loop_;
    Bus& bus_;
    Fd listener_;
    std::list<Connection> connections_;
    std::list<Connection> closed_; // freed from the loop, not from their callbacks
    EventSource accept_;
    EventSource idle_;
    EventSource collect_;
};

} // namespace thaw::metrics
