// SPDX-License-Identifier: MIT
#pragma once

// One connection to a session's socket, from accept to the VMM's whole message: first the proof
// that the peer is the session's VMM, then its region list and descriptors. Every generation of
// Firecracker since 1.1. Nothing is read before the peer is proven, so that a broker that dies
// meanwhile loses nothing: the connection is in the descriptor store and its data in the socket.

#include "core/fd.hpp"
#include "event/event.hpp"
#include "peer_check.hpp"
#include "region_list.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace thaw::pagerd {

struct HandshakeResult {
    std::vector<GuestRegion> regions; // validated
    Fd uffd;                          // checked, non-blocking
    Fd connection;                    // kept open: Firecracker keeps its end since 1.12
    Peer peer;
};

class Handshake {
public:
    struct Options {
        std::string unit; // the VMM's
        RegionLimits limits;
        Microseconds timeout = 0; // from now to the end of the message
    };
    // Called from the event loop, never from inside begin(); each may destroy the handshake.
    struct Events {
        std::function<void()> proven;        // the peer is the VMM; its message is read now
        std::function<void(Error)> stranger; // it is not, or cannot be told: the session goes on
        // Message complete, or the VMM's fault (HandshakeInvalid, RegionsInvalid, ImageMismatch,
        // DescriptorsInvalid, UffdUnsupported, HandshakeTimeout). Every descriptor that came with a
        // bad message is closed.
        std::function<void(Result<HandshakeResult>)> done;
    };
    // PeerMismatch when the peer is gone already: a stranger.
    static Result<std::unique_ptr<Handshake>>
    begin(EventLoop& loop, SystemdClient& systemd, Fd connection, Options options, Events events);

private:
    Handshake(EventLoop& loop, Fd connection, Options options, Events events);
    void on_peer(Result<Peer> peer);
    void on_readable();
    void on_timeout();
    // One read; false when there is nothing more for now.
    Result<bool> read_part();
    Result<HandshakeResult> evaluate();
    void finish(Result<HandshakeResult> result);

    EventLoop& loop_;
    Fd connection_;
    Options options_;
    Events events_;
    std::unique_ptr<PeerCheck> peer_check_;
    Peer peer_;
    EventSource readable_;
    EventSource deadline_;
    ArrayScanner scanner_;
    std::string text_;
    std::vector<Fd> fds_;
};

} // namespace thaw::pagerd
