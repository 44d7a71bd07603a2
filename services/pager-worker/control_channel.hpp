// SPDX-License-Identifier: MIT
#pragma once

// The worker's connection to the broker. The broker may die at any time; faults are served all the
// same. When the channel closes, the worker dials in on the control socket with a spare socket
// (socket(2) is forbidden by then), says Hello with all its descriptors and gets fresh spares.

#include "core/fd.hpp"
#include "protocol/worker_control.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::worker {

class ControlChannel {
public:
    // `channel` is non-blocking. `hello` names descriptors that outlive this.
    ControlChannel(
        Fd channel, std::vector<Fd> spares, std::string control_path,
        const protocol::HelloView& hello
    );

    // -1 while there is no connection.
    int fd() const { return channel_.get(); }
    // Takes what the broker said.
    struct Wishes {
        bool quit = false;
        bool attend = false; // it has changed SessionControl
        std::vector<protocol::ChunkLandedMessage> landed;
        std::vector<protocol::ChunkFailedMessage> failed;
    };
    Wishes receive(std::uint64_t now);
    // Dials when it is time to. True when a connection was made.
    bool dial(std::uint64_t now);
    // When dial() has something to do; kNever: connected, or no sockets left.
    std::uint64_t next_deadline() const;
    // Best effort: what it says stands in the session memory too.
    void send(const protocol::EncodedMessage& message, std::uint64_t now);
    std::size_t spares() const { return spares_.size(); }

private:
    void lost(std::uint64_t now);

    Fd channel_;
    std::vector<Fd> spares_;
    std::string path_;
    protocol::HelloView hello_;
    std::uint64_t next_dial_ns_ = 0;
    std::uint64_t delay_ns_ = 0;
};

} // namespace thaw::worker
