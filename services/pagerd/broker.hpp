// SPDX-License-Identifier: MIT
#pragma once

// What the sessions of one broker share. Everything outlives the sessions.

#include "bus/bus.hpp"
#include "chunk_cache.hpp"
#include "config.hpp"
#include "event/event.hpp"
#include "image_table.hpp"
#include "systemd/manager_client.hpp"
#include "systemd/notify.hpp"
#include "worker_process.hpp"

#include <cstddef>
#include <functional>
#include <map>
#include <memory>

namespace thaw::pagerd {

// Workers whose VMM is dead. They end by themselves; one that does not is killed after a moment.
class EndingWorkers {
public:
    explicit EndingWorkers(EventLoop& loop) : loop_(loop) {}
    // `id` is what forget() takes once the process has exited.
    void add(const void* id, std::unique_ptr<WorkerProcess> process);
    void forget(const void* id);
    std::size_t size() const { return workers_.size(); }

private:
    struct Entry {
        std::unique_ptr<WorkerProcess> process;
        EventSource deadline;
    };
    EventLoop& loop_;
    std::map<const void*, Entry> workers_;
};

struct Broker {
    EventLoop& loop;
    Bus& bus;
    SystemdClient& systemd;
    FdStore& store;
    ImageTable& images;
    EndingWorkers& ending;
    const Config& config;
    ChunkCache* chunks = nullptr; // set once, before the first session
    // Fixed at start: no new session, no new worker.
    bool safe_mode = false;
    // Moving workers to their unit failed before; it is said once.
    bool attach_failed = false;
    // Since the start.
    std::uint64_t sessions_made = 0;
    std::uint64_t sessions_failed = 0;
    std::uint64_t workers_lost = 0;
};

} // namespace thaw::pagerd
