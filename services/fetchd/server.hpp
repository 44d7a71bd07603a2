// SPDX-License-Identifier: MIT
#pragma once

// Those who are connected and their requests. Every request starts as soon as fewer than
// MaxTransfers= are under way with its server, first come first served: one that hangs keeps only
// those waiting who want something of it. Requests of a connection that has ended are given up.

#include "core/fd.hpp"
#include "event/event.hpp"
#include "job.hpp"

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace thaw::fetchd {

class Server {
public:
    static constexpr std::size_t kMostConnections = 32;
    static constexpr std::size_t kMostRequests = 256; // of one connection
    // Answers that one who does not read may leave behind.
    static constexpr std::size_t kMostUnsent = 4 * kMostRequests;

    // `allowed`: uids that may ask.
    Server(Engine& engine, Fd listener, std::vector<uid_t> allowed);
    ~Server();
    Result<> start();

private:
    struct Connection {
        std::uint64_t key = 0;
        Fd fd;
        EventSource io;
        std::set<std::uint64_t> ids; // of requests without an answer
        std::deque<protocol::FetchMessage> unsent;
        std::map<std::uint64_t, std::uint64_t> progress; // to be told, newest only
    };
    struct Running {
        std::uint64_t connection = 0;
        std::unique_ptr<Job> job;
        std::uint64_t id = 0;
        std::string source; // what it is counted under
        bool started = false;
    };

    void on_connection();
    void on_io(std::uint64_t key, std::uint32_t events);
    Result<> handle(Connection& connection, protocol::FetchMessage message);
    void cancel(std::uint64_t key, std::uint64_t id);
    void start_next();
    void on_progress(std::uint64_t key, std::uint64_t id, std::uint64_t landed);
    void on_ended(std::uint64_t serial, protocol::FetchMessage end);
    void flush(std::uint64_t key);
    Result<bool> send_some(Connection& connection);
    void drop(std::uint64_t key);
    void collect();
    void rest_if_idle();

    Engine& engine_;
    Fd listener_;
    std::vector<uid_t> allowed_;
    std::map<std::uint64_t, Connection> connections_;
    std::map<std::uint64_t, Running> jobs_; // in the order they came
    std::vector<std::unique_ptr<Job>> ended_;
    std::map<std::string, std::uint64_t> running_; // started, by source
    std::uint64_t next_key_ = 1;
    std::uint64_t next_serial_ = 1;
    EventSource accept_;
    EventSource idle_;
    EventSource collect_;
};

} // namespace thaw::fetchd
