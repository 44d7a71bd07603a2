// SPDX-License-Identifier: MIT
#pragma once

// The control socket of an overlay (protocol/rootfs_control.hpp): status, and one point at a time.
// Only root and the overlay's own user are listened to. Lives in one event loop; the overlay may be
// used by other threads meanwhile.

#include "event/event.hpp"
#include "overlay/overlay.hpp"
#include "protocol/rootfs_control.hpp"
#include "settings.hpp"

#include <atomic>
#include <map>
#include <memory>

namespace thaw::rootfs {

class ControlServer {
public:
    // `listening` is taken over. All references must outlive the server; `clients` is how many are
    // connected for blocks. Connections, and the point one may hold, end with it.
    static Result<std::unique_ptr<ControlServer>> create(
        EventLoop& loop, Overlay& overlay, const Settings& settings,
        const std::atomic<unsigned>& clients, Fd listening
    );
    ControlServer(const ControlServer&) = delete;
    ControlServer& operator=(const ControlServer&) = delete;

private:
    struct Connection {
        Fd socket;
        EventSource source;
        std::optional<Point> point;
    };
    ControlServer(
        EventLoop& loop, Overlay& overlay, const Settings& settings,
        const std::atomic<unsigned>& clients, Fd listening, protocol::BaseIdentity base
    );
    void accept_one();
    void on_request(int socket);
    Result<> answer(Connection& connection, protocol::RootfsType request);
    Result<> answer_point(Connection& connection);
    protocol::RootfsStatus status() const;

    EventLoop& loop_;
    Overlay& overlay_;
    const Settings& settings_;
    const std::atomic<unsigned>& clients_;
    Fd listening_;
    protocol::BaseIdentity base_;
    std::map<int, Connection> connections_; // by socket
    EventSource accept_;
};

} // namespace thaw::rootfs
