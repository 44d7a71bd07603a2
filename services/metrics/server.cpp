// SPDX-License-Identifier: MIT
#include "server.hpp"

#include "event/priorities.hpp"
#include "log/log.hpp"
#include "request.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>

namespace thaw::metrics {

Result<> Server::start() {
    THAW_CHECK(set_nonblocking(listener_.get(), true));
    THAW_TRY(
        accept_, loop_.add_io(
                     listener_.get(), EPOLLIN, [this](std::uint32_t) { on_connection(); },
                     "metrics-socket", priority::kNotify
                 )
    );
    THAW_TRY(idle_, loop_.add_timer(kIdle, [this] { loop_.exit(0); }, "idle", priority::kTimer));
    return {};
}

void Server::on_connection() {
    Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    // Whoever opens more than that waits for his own.
    if (connections_.size() >= kMostConnections) return;
    idle_.enable(false);
    connections_.emplace_front();
    const auto at = connections_.begin();
    at->fd = std::move(fd);
    auto io = loop_.add_io(
        at->fd.get(), EPOLLIN,
        [this, at](std::uint32_t events) {
            if ((events & EPOLLOUT) != 0)
                on_writable(at);
            else
                on_readable(at);
        },
        "metrics-connection", priority::kNotify
    );
    auto deadline = loop_.add_timer(
        kConnectionLimit, [this, at] { close(at); }, "metrics-limit", priority::kTimer
    );
    if (!io || !deadline) return close(at);
    at->io = std::move(*io);
    at->deadline = std::move(*deadline);
}

void Server::on_readable(Position connection) {
    std::array<char, kMaxRequest> buffer{};
    const auto n = ::recv(connection->fd.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return close(connection);
    connection->received.append(buffer.data(), static_cast<std::size_t>(n));
    const auto verdict = judge_request(connection->received);
    if (verdict == Verdict::Incomplete) return;
    connection->io.enable(false);
    if (verdict != Verdict::Metrics) return respond(connection, make_response(verdict, ""));
    connection->collector =
        std::make_unique<Collector>(bus_, [this, connection](const Answers& answers) {
            respond(connection, make_response(Verdict::Metrics, suite_exposition(answers)));
        });
}

void Server::respond(Position connection, std::string answer) {
    connection->answer = std::move(answer);
    if (!connection->io.set_io_events(EPOLLOUT)) return close(connection);
    connection->io.enable(true);
}

void Server::on_writable(Position connection) {
    const auto left = std::string_view(connection->answer).substr(connection->sent);
    const auto n = ::send(connection->fd.get(), left.data(), left.size(), MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return close(connection);
    connection->sent += static_cast<std::size_t>(n);
    if (connection->sent == connection->answer.size()) close(connection);
}

// From inside its callbacks too: it is only put aside here.
void Server::close(Position connection) {
    connection->io.reset();
    connection->deadline.reset();
    closed_.splice(closed_.begin(), connections_, connection);
    auto later = loop_.add_defer([this] { closed_.clear(); }, "collect", priority::kCollect);
    if (later) collect_ = std::move(*later);
    if (!connections_.empty()) return;
    if (auto armed = idle_.rearm(kIdle); !armed) loop_.exit(0);
}

} // namespace thaw::metrics
