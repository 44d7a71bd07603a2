// SPDX-License-Identifier: MIT
#include "http_server.hpp"

#include <fmt/format.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <vector>

namespace thaw::standin {
namespace {

// Firecracker's own limits: 10 connections, 51200 bytes of payload.
constexpr std::size_t connections_max = 10;
constexpr std::size_t payload_max = 51'200;
constexpr std::size_t head_max = 8'192;

bool send_all(int socket, std::string_view data) {
    while (!data.empty()) {
        const ssize_t sent = ::send(socket, data.data(), data.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            pollfd wait{socket, POLLOUT, 0};
            ::poll(&wait, 1, -1);
            continue;
        }
        if (sent < 0) {
            return false;
        }
        data.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
}

std::string format_response(const HttpResponse& response) {
    std::string head = fmt::format(
        "HTTP/1.1 {} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n", response.status
    );
    if (!response.body.empty()) {
        head += fmt::format(
            "Content-Type: application/json\r\nContent-Length: {}\r\n", response.body.size()
        );
    }
    return head + "\r\n" + response.body;
}

struct Head {
    HttpRequest request;
    std::size_t size = 0; ///< with the empty line
    std::size_t content_length = 0;
    bool expects_continue = false;
};

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) {
        return static_cast<char>(std::tolower(c));
    });
    return out;
}

void read_header(std::string_view line, Head& head) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) {
        return;
    }
    const std::string name = lower(line.substr(0, colon));
    std::string_view value = line.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
    if (name == "content-length") {
        std::from_chars(value.data(), value.data() + value.size(), head.content_length);
    } else if (name == "expect") {
        head.expects_continue = lower(value) == "100-continue";
    }
}

/// Nothing when the head is not complete yet; an empty method when it is not HTTP.
std::optional<Head> parse_head(const std::string& input) {
    const std::size_t end = input.find("\r\n\r\n");
    if (end == std::string::npos) {
        return std::nullopt;
    }
    Head head;
    head.size = end + 4;
    const std::string_view text(input.data(), end);
    const std::size_t line_end = std::min(text.find("\r\n"), text.size());
    const std::string_view line = text.substr(0, line_end);
    const std::size_t first = line.find(' ');
    const std::size_t second = line.rfind(' ');
    if (first == std::string_view::npos || second <= first ||
        !line.substr(second + 1).starts_with("HTTP/1.")) {
        return head;
    }
    head.request.method = line.substr(0, first);
    head.request.path = line.substr(first + 1, second - first - 1);
    for (std::size_t at = line_end; at < text.size();) {
        at += 2;
        const std::size_t next = std::min(text.find("\r\n", at), text.size());
        read_header(text.substr(at, next - at), head);
        at = next;
    }
    return head;
}

} // namespace

Result<void> HttpServer::listen(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return fail(path + ": path too long for a socket");
    }
    std::memcpy(address.sun_path, path.c_str(), path.size());
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener_ ||
        ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(listener_.get(), 128) != 0) {
        return fail(path + ": " + os_error(errno));
    }
    return {};
}

void HttpServer::accept_one() {
    Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
        return;
    }
    if (connections_.size() >= connections_max) {
        send_all(socket.get(), format_response({503, R"({"error": "Too many connections"})"}));
        return;
    }
    connections_.push_back({std::move(socket), {}});
}

bool HttpServer::read_input(Connection& connection) {
    char buffer[65536];
    const ssize_t got = ::recv(connection.socket.get(), buffer, sizeof(buffer), 0);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    connection.input.append(buffer, static_cast<std::size_t>(got));
    return got > 0;
}

bool HttpServer::serve(Connection& connection, const Handler& handler) {
    for (;;) {
        auto head = parse_head(connection.input);
        if (!head) {
            return connection.input.size() <= head_max;
        }
        if (head->request.method.empty()) {
            send_all(
                connection.socket.get(),
                format_response({400, R"({"error": "Invalid request line"})"})
            );
            return false;
        }
        if (head->content_length > payload_max) {
            send_all(
                connection.socket.get(),
                format_response({413, R"({"error": "Request payload too large"})"})
            );
            return false;
        }
        if (connection.input.size() < head->size + head->content_length) {
            if (head->expects_continue && !connection.continued) {
                connection.continued = true;
                return send_all(connection.socket.get(), "HTTP/1.1 100 Continue\r\n\r\n");
            }
            return true;
        }
        head->request.body = connection.input.substr(head->size, head->content_length);
        connection.input.erase(0, head->size + head->content_length);
        connection.continued = false;
        const HttpResponse response = handler(head->request);
        if (response.exit_code) {
            exit_code_ = response.exit_code;
        }
        if (!send_all(connection.socket.get(), format_response(response)) || exit_code_) {
            return false;
        }
    }
}

int HttpServer::run(const Handler& handler) {
    while (!exit_code_) {
        std::vector<pollfd> wait{{listener_.get(), POLLIN, 0}};
        for (const Connection& connection : connections_) {
            wait.push_back({connection.socket.get(), POLLIN, 0});
        }
        if (::poll(wait.data(), wait.size(), -1) < 0) {
            continue; // EINTR
        }
        std::size_t i = 1;
        for (auto it = connections_.begin(); it != connections_.end() && !exit_code_; ++i) {
            const bool keep = wait[i].revents == 0 || (read_input(*it) && serve(*it, handler));
            it = keep ? std::next(it) : connections_.erase(it);
        }
        if (wait[0].revents != 0) {
            accept_one();
        }
    }
    return *exit_code_;
}

} // namespace thaw::standin
