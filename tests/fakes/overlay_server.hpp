// SPDX-License-Identifier: MIT
#pragma once

// A small overlay of a disk that serves the real control socket: blocks go to a memfd up to a
// budget, then to a file; zeros are kept as such; a point is held for one connection. Writes while
// it is held go to new places, as those of the real one do.

#include "protocol/rootfs_control.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <thread>

namespace thaw::fakes {

class OverlayServer {
public:
    struct Setup {
        std::string name = "vm";
        std::string socket;    // its folder exists
        std::string base_path; // empty: none
        protocol::DiskGeometry geometry;
        std::string disk_path;              // of the file for what is over the budget
        std::uint64_t memory_blocks = 1024; // budget
    };
    explicit OverlayServer(Setup setup);
    ~OverlayServer();
    OverlayServer(const OverlayServer&) = delete;
    OverlayServer& operator=(const OverlayServer&) = delete;

    // `data` is one block. All zeros are noticed. `written` is called before any later point.
    void write(
        std::uint64_t block, std::span<const std::byte> data,
        const std::function<void()>& written = nullptr
    );
    bool point_held();
    // Called when a point is taken, between two writes.
    void on_point(std::function<void()> callback);

private:
    struct Place {
        protocol::PointKind kind = protocol::PointKind::Zero;
        std::uint64_t slot = 0;
        std::uint64_t epoch = 0; // points taken before it was written: older ones are shared
    };
    void serve();
    void answer(int connection);
    void send_point(int connection);
    protocol::RootfsStatus status();

    Setup setup_;
    Fd listener_;
    Fd stop_; // eventfd
    Fd memory_;
    Fd disk_;
    std::mutex mutex_; // of what follows
    std::map<std::uint64_t, Place> places_;
    std::uint64_t memory_slots_ = 0;
    std::uint64_t disk_slots_ = 0;
    std::uint64_t epoch_ = 0;
    std::function<void()> on_point_;
    int holder_ = -1; // the connection that has the point
    std::thread thread_;
};

} // namespace thaw::fakes
