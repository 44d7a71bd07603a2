// SPDX-License-Identifier: MIT
#include "server.hpp"

#include "core/pidfd.hpp"
#include "core/scm.hpp"
#include "event/priorities.hpp"
#include "log/log.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

namespace thaw::fetchd {

using protocol::FetchMessage;
using protocol::FetchType;

namespace {
// Messages handled before other sources of the loop get their turn.
constexpr int kMessagesPerTurn = 32;

// The server that a request needs; of a file the file.
std::string source_of(const FetchMessage& message) {
    if (message.url.empty()) return "file " + message.identity.etag;
    const auto url = parse_url(message.url);
    return url ? url->scheme + "://" + url->host + ":" + url->port : ""; // it fails at once
}
} // namespace

Server::Server(Engine& engine, Fd listener, std::vector<uid_t> allowed)
    : engine_(engine), listener_(std::move(listener)), allowed_(std::move(allowed)) {}

Server::~Server() = default;

Result<> Server::start() {
    THAW_CHECK(set_nonblocking(listener_.get(), true));
    THAW_TRY(
        accept_, engine_.loop.add_io(
                     listener_.get(), EPOLLIN, [this](std::uint32_t) { on_connection(); },
                     "fetch-socket", priority::kNotify
                 )
    );
    THAW_TRY(
        idle_, engine_.loop.add_timer(
                   engine_.config.idle_exit, [this] { engine_.loop.exit(0); }, "fetch-idle",
                   priority::kTimer
               )
    );
    THAW_TRY(
        collect_, engine_.loop.add_timer(
                      0, [this] { collect(); }, "fetch-collect", priority::kCollect
                  )
    );
    collect_.enable(false);
    return {};
}

void Server::on_connection() {
    Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    auto peer = socket_peer(fd.get());
    if (!peer) return; // gone already
    if (std::ranges::find(allowed_, peer->uid) == allowed_.end()) {
        log_warning("process {} of uid {} may not have anything fetched", peer->pid, peer->uid);
        return;
    }
    if (connections_.size() >= kMostConnections) {
        log_warning("more than {} connections: process {} refused", kMostConnections, peer->pid);
        return;
    }
    const auto key = next_key_++;
    auto io = engine_.loop.add_io(
        fd.get(), EPOLLIN, [this, key](std::uint32_t events) { on_io(key, events); },
        "fetch-connection", priority::kNotify
    );
    if (!io) return;
    idle_.enable(false);
    auto& connection = connections_[key];
    connection.key = key;
    connection.fd = std::move(fd);
    connection.io = std::move(*io);
}

void Server::on_io(std::uint64_t key, std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) flush(key);
    for (int i = 0; i < kMessagesPerTurn; ++i) {
        const auto found = connections_.find(key);
        if (found == connections_.end()) return;
        auto message = protocol::receive_fetch(found->second.fd.get());
        if (!message && message.error().code() == EAGAIN) return;
        auto handled = message ? handle(found->second, std::move(*message))
                               : Result<>(std::unexpected(std::move(message).error()));
        if (handled) continue;
        if (handled.error().code() != ECONNRESET)
            log_warning("a connection is closed: {}", handled.error().message());
        return drop(key);
    }
}

Result<> Server::handle(Connection& connection, FetchMessage message) {
    if (message.type == FetchType::Cancel) {
        cancel(connection.key, message.id);
        return {};
    }
    if (connection.ids.size() >= kMostRequests) return fail(EBADMSG, "too many requests at once");
    const auto id = message.id;
    if (connection.ids.contains(id)) return fail(EBADMSG, "request {} is there already", id);
    const auto serial = next_serial_++;
    Job::Report report{
        .progress = [this, key = connection.key,
                     id](std::uint64_t landed) { on_progress(key, id, landed); },
        .ended = [this, serial](FetchMessage end) { on_ended(serial, std::move(end)); },
    };
    auto source = source_of(message);
    auto job = make_job(engine_, std::move(message), std::move(report));
    if (!job) return fail(EBADMSG, "a server's message from a client");
    connection.ids.insert(id);
    jobs_.emplace(serial, Running{connection.key, std::move(job), id, std::move(source), false});
    start_next();
    return {};
}

void Server::cancel(std::uint64_t key, std::uint64_t id) {
    for (auto& [serial, running] : jobs_) {
        if (running.connection != key || running.id != id) continue;
        running.job->cancel(); // may take it out of the map
        return;
    }
}

void Server::start_next() {
    for (auto& [serial, running] : jobs_) {
        if (running.started) continue;
        auto& running_there = running_[running.source];
        if (running_there >= engine_.config.most_transfers) continue;
        running.started = true;
        ++running_there;
        running.job->start();
        // A job that cannot even start has changed the map.
        if (!ended_.empty()) return;
    }
}

void Server::on_progress(std::uint64_t key, std::uint64_t id, std::uint64_t landed) {
    const auto found = connections_.find(key);
    if (found == connections_.end()) return;
    found->second.progress[id] = landed;
    flush(key);
}

void Server::on_ended(std::uint64_t serial, FetchMessage end) {
    auto node = jobs_.extract(serial);
    const auto count = running_.find(node.mapped().source);
    if (node.mapped().started && --count->second == 0) running_.erase(count);
    ended_.push_back(std::move(node.mapped().job));
    (void)collect_.rearm(0);
    const auto key = node.mapped().connection;
    const auto found = connections_.find(key);
    if (found == connections_.end()) return;
    found->second.ids.erase(end.id);
    found->second.progress.erase(end.id);
    found->second.unsent.push_back(std::move(end));
    flush(key);
}

void Server::flush(std::uint64_t key) {
    const auto found = connections_.find(key);
    if (found == connections_.end()) return;
    auto& connection = found->second;
    auto all = send_some(connection);
    const std::uint32_t wanted = all && *all ? EPOLLIN : EPOLLIN | EPOLLOUT;
    if (!all || connection.unsent.size() > kMostUnsent || !connection.io.set_io_events(wanted))
        drop(key);
}

// False when the socket is full.
Result<bool> Server::send_some(Connection& connection) {
    const auto send = [&connection](const FetchMessage& message) -> Result<bool> {
        THAW_TRY(const auto encoded, encode_fetch(message));
        auto sent = send_message(connection.fd.get(), encoded.data, {});
        if (!sent && sent.error().code() == EAGAIN) return false;
        if (!sent) return std::unexpected(std::move(sent).error());
        return true;
    };
    while (!connection.progress.empty()) {
        const auto first = connection.progress.begin();
        FetchMessage message;
        message.type = FetchType::Progress;
        message.id = first->first;
        message.landed = first->second;
        THAW_TRY(const bool sent, send(message));
        if (!sent) return false;
        connection.progress.erase(first);
    }
    while (!connection.unsent.empty()) {
        THAW_TRY(const bool sent, send(connection.unsent.front()));
        if (!sent) return false;
        connection.unsent.pop_front();
    }
    return true;
}

// Not from inside a job's own call: its jobs are canceled here, and end now or a moment later.
void Server::drop(std::uint64_t key) {
    if (connections_.erase(key) == 0) return;
    std::vector<Job*> orphans;
    for (auto& [serial, running] : jobs_)
        if (running.connection == key) orphans.push_back(running.job.get());
    for (auto* job : orphans)
        job->cancel(); // kept in ended_ until the loop turns
    rest_if_idle();
}

void Server::collect() {
    ended_.clear();
    start_next();
    rest_if_idle();
}

void Server::rest_if_idle() {
    if (!connections_.empty() || !jobs_.empty()) return;
    if (!idle_.rearm(engine_.config.idle_exit)) engine_.loop.exit(0);
}

} // namespace thaw::fetchd
