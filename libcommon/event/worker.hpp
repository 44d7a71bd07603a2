// SPDX-License-Identifier: MIT
#pragma once

// Threads for what may block on a file system: one per volume, image and so on, so that a disk that
// hangs takes neither the daemon nor other work along. The work runs in the thread and touches
// nothing but its own copies; the answer is handled in the event loop.

#include "core/fd.hpp"
#include "event/event.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace thaw {

class Worker;

// Brings the answers of all threads into the event loop. Outlives the workers.
class Mailbox {
public:
    static Result<std::unique_ptr<Mailbox>> create(EventLoop& loop);
    Mailbox(const Mailbox&) = delete;
    Mailbox& operator=(const Mailbox&) = delete;
    ~Mailbox();

private:
    friend class Worker;
    struct Outbox; // shared with the threads
    Mailbox() = default;
    void deliver();
    std::shared_ptr<Outbox> outbox_;
    std::map<std::uint64_t, Worker*> workers_;
    std::uint64_t next_ = 0;
    EventSource source_;
};

class Worker {
public:
    // EAGAIN when there is no thread to be had.
    static Result<std::unique_ptr<Worker>> start(Mailbox& mailbox, const std::string& name);
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    // Forgets all answers; never waits for the thread, which ends after its present work.
    ~Worker();

    // One after the other, in the order of the calls.
    template <class T>
    void run(std::function<T()> work, std::function<void(T)> done) {
        push(
            [work = std::move(work)]() -> std::shared_ptr<void> {
                return std::make_shared<T>(work());
            },
            [done = std::move(done)](void* answer) { done(std::move(*static_cast<T*>(answer))); }
        );
    }
    // When the work that runs, or waits the longest, was asked for; kInfinity when there is none.
    Microseconds oldest() const;

private:
    friend class Mailbox;
    struct Queue; // shared with the thread
    using Work = std::function<std::shared_ptr<void>()>;
    using Answer = std::function<void(void*)>;
    struct Pending {
        Answer answer;
        Microseconds asked;
    };
    Worker(Mailbox& mailbox, std::uint64_t key) : mailbox_(mailbox), key_(key) {}
    void push(Work work, Answer answer);
    void answered(std::uint64_t id, void* value);

    Mailbox& mailbox_;
    std::uint64_t key_;
    std::shared_ptr<Queue> queue_;
    std::map<std::uint64_t, Pending> pending_;
    std::uint64_t next_ = 0;
};

} // namespace thaw
