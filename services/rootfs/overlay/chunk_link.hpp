// SPDX-License-Identifier: MIT
#pragma once

// The connection to the pager's cache of remote images. A broker that dies is dialed again: its
// socket outlives it, so that means to wait. Thread-safe; the thread that listens is started with
// the first wait (nothing of a plugin may run before nbdkit has forked).

#include "core/fd.hpp"
#include "protocol/chunk_map.hpp"
#include "protocol/chunk_uses.hpp"
#include "protocol/worker_control.hpp"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace thaw::rootfs {

// What the broker hands over: the same for everybody who reads until it hands over another.
struct ChunkView {
    Fd data; // to read
    Fd index;
    protocol::ChunkMap map;
    protocol::ChunkUses uses;
};

class ChunkLink {
public:
    using Clock = std::chrono::steady_clock;
    // How long a read waits at most: longer than a chunk may take to fetch (60 s), shorter than
    // the patience of who reads blocks (90 s is usual).
    static constexpr std::chrono::seconds kPatience{75};
    // Who waited in vain lets those behind him wait no longer than this, until something lands:
    // they may have waited for a thread all that time.
    static constexpr std::chrono::seconds kShortPatience{1};

    // Blocks until the broker has answered, 10 s at most for each of three attempts (it may just be
    // restarted). ETIMEDOUT; EACCES: it turns us away; ENOENT, ECONNREFUSED: nobody serves here.
    static Result<std::unique_ptr<ChunkLink>> connect(std::string socket);
    ~ChunkLink();
    ChunkLink(const ChunkLink&) = delete;
    ChunkLink& operator=(const ChunkLink&) = delete;

    std::shared_ptr<const ChunkView> view() const;
    // Has the chunk fetched, as far as its first `pages` pages; waits until it is worth another
    // look at view(). An Error: it cannot be had now.
    Result<>
    want(std::uint32_t chunk, std::uint32_t pages, std::uint32_t ahead, Clock::time_point deadline);

private:
    struct Wait {
        protocol::WantChunkMessage wanted;
        bool over = false;
        int errno_value = 0;
    };

    explicit ChunkLink(std::string path) : path_(std::move(path)) {}
    Result<> greet();
    void start_thread();
    void run();
    void listen();
    bool is_idle() const;
    void drain_wake() const;
    void dial();
    void take(protocol::ControlMessage message);
    Result<> adopt(protocol::ChunksMessage chunks);
    void end_waits(std::uint32_t chunk, int errno_value);
    void ask_all();

    std::string path_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::shared_ptr<const ChunkView> view_;
    std::list<Wait*> waits_;
    Fd socket_; // invalid while nobody is there
    Fd wake_;   // eventfd: the thread has to look at `ending_` and `waits_`
    bool ending_ = false;
    bool waited_in_vain_ = false; // and nothing has landed since
    unsigned dials_ = 0;          // since a broker last handed something over; the thread's
    std::thread thread_;
};

} // namespace thaw::rootfs
