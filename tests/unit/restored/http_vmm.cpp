// SPDX-License-Identifier: MIT
#include "http_vmm.hpp"

#include "core/scm.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace thaw::testing {

namespace {

template <class T>
T must(Result<T> result) {
    if (!result) {
        fmt::print(stderr, "http_vmm: {}\n", result.error().message());
        std::abort();
    }
    return std::move(*result);
}

} // namespace

HttpVmm::HttpVmm(EventLoop& loop, std::string path) : loop_(loop), path_(std::move(path)) {
    listener_ = must(listen_unix(path_, SOCK_STREAM, 64));
    accepting_ = must(loop_.add_io(
        listener_.get(), EPOLLIN, [this](std::uint32_t) { on_connect(); }, "http-vmm", 0
    ));
}

HttpVmm::~HttpVmm() {
    die();
}

void HttpVmm::die() {
    accepting_.reset();
    listener_.reset();
    connections_.clear();
    unlink(path_.c_str());
}

void HttpVmm::on_connect() {
    Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    std::erase_if(connections_, [](const auto& old) { return old->over; });
    auto& connection = *connections_.emplace_back(std::make_unique<Connection>());
    connection.fd = std::move(fd);
    connection.source = must(loop_.add_io(
        connection.fd.get(), EPOLLIN, [this, &connection](std::uint32_t) { on_input(connection); },
        "http-vmm-connection", 0
    ));
}

void HttpVmm::on_input(Connection& connection) {
    char buffer[4096];
    const auto got = read(connection.fd.get(), buffer, sizeof buffer);
    if (got <= 0) {
        connection.over = true;
        connection.source.enable(false);
        return;
    }
    auto& input = connection.input;
    input.append(buffer, static_cast<std::size_t>(got));
    const auto end = input.find("\r\n\r\n");
    if (end == std::string::npos) return;
    std::size_t length = 0;
    if (const auto at = input.find("Content-Length: "); at < end)
        length = std::strtoul(input.c_str() + at + 16, nullptr, 10);
    if (input.size() < end + 4 + length) return;
    const auto line = input.substr(0, input.find("\r\n"));
    const auto request = line.substr(0, line.rfind(' '));
    const auto body = input.substr(end + 4, length);
    input.clear();
    answer(connection, request, body);
}

void HttpVmm::answer(Connection& connection, const std::string& request, const std::string& body) {
    requests_.push_back(request);
    last_body_ = body;
    if (hook_) hook_(request, body);
    if (connection.over || !listener_) return; // the hook let us die
    auto found = script_.find(request);
    HttpBehaviour behaviour;
    if (found != script_.end()) {
        behaviour = found->second;
    } else if (request == "GET /") {
        behaviour = {.status = 200, .body = fmt::format(R"({{"id":"x","state":"{}"}})", state_)};
    } else if (request == "PUT /snapshot/load") {
        state_ = "Paused";
    } else if (request == "PATCH /vm") {
        state_ = body.find("Resumed") != std::string::npos ? "Running" : "Paused";
    }
    if (behaviour.hang) return;
    if (behaviour.delay == 0) {
        deliver(connection, behaviour);
        return;
    }
    connection.timer = must(loop_.add_timer(
        behaviour.delay, [this, &connection, behaviour] { deliver(connection, behaviour); },
        "http-vmm-delay", 0
    ));
}

void HttpVmm::deliver(Connection& connection, const HttpBehaviour& behaviour) {
    std::string text = behaviour.raw;
    if (text.empty() && !behaviour.close)
        text = fmt::format(
            "HTTP/1.1 {} X\r\nServer: Firecracker API\r\nConnection: keep-alive\r\n{}\r\n{}",
            behaviour.status,
            behaviour.status == 204
                ? ""
                : fmt::format(
                      "Content-Type: application/json\r\nContent-Length: {}\r\n",
                      behaviour.body.size()
                  ),
            behaviour.body
        );
    // Whole answers of a test fit into the socket's buffer; a reader that is gone is fine.
    (void)send(connection.fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (!behaviour.close) return;
    connection.over = true;
    connection.source.reset();
    connection.fd.reset();
}

} // namespace thaw::testing
