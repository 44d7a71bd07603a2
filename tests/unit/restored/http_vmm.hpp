// SPDX-License-Identifier: MIT
#pragma once

// A small HTTP server over a UNIX socket, driven by the test's loop, that answers like a VMM's API
// and misbehaves on request.

#include "core/fd.hpp"
#include "event/event.hpp"

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace thaw::testing {

struct HttpBehaviour {
    int status = 204;
    std::string body = {};
    std::string raw = {}; // sent instead of a proper answer
    bool hang = false;    // no answer at all
    bool close = false;   // after what was sent, or at once
    Microseconds delay = 0;
};

class HttpVmm {
public:
    HttpVmm(EventLoop& loop, std::string path);
    ~HttpVmm();
    HttpVmm(const HttpVmm&) = delete;
    HttpVmm& operator=(const HttpVmm&) = delete;

    // Key: "PUT /snapshot/load". Without one: 204, and GET / tells the state.
    void on(const std::string& request, HttpBehaviour behaviour) { script_[request] = behaviour; }
    // Told of each request before it is answered.
    void on_request(std::function<void(const std::string& request, const std::string& body)> hook) {
        hook_ = std::move(hook);
    }
    const std::vector<std::string>& requests() const { return requests_; }
    const std::string& last_body() const { return last_body_; }
    void set_state(std::string state) { state_ = std::move(state); }
    const std::string& state() const { return state_; }
    std::size_t connections() const { return connections_.size(); }
    // As a process that dies: all connections and the listener close.
    void die();

private:
    struct Connection {
        Fd fd;
        std::string input;
        EventSource source;
        EventSource timer;
        bool over = false;
    };
    void on_connect();
    void on_input(Connection& connection);
    void answer(Connection& connection, const std::string& request, const std::string& body);
    void deliver(Connection& connection, const HttpBehaviour& behaviour);

    EventLoop& loop_;
    std::string path_;
    Fd listener_;
    EventSource accepting_;
    std::list<std::unique_ptr<Connection>> connections_;
    std::map<std::string, HttpBehaviour> script_;
    std::function<void(const std::string&, const std::string&)> hook_;
    std::vector<std::string> requests_;
    std::string last_body_;
    std::string state_ = "Not started";
};

} // namespace thaw::testing
