// SPDX-License-Identifier: MIT
#pragma once

// One long piece of work (reading and writing files) on a thread of its own, for daemons whose loop
// must not wait. The work gets nothing of the loop's objects; what it needs it takes by value.

#include "event/event.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

namespace thaw {

class BackgroundTask {
public:
    // Set when nobody waits for the work any more: it is asked to come to an end soon.
    using Canceled = std::atomic<bool>;
    using Work = std::function<Result<>(const Canceled& canceled)>;
    // Called once from the loop; may destroy the task.
    using Done = std::function<void(Result<>)>;

    // EAGAIN when no thread can be had.
    static Result<std::unique_ptr<BackgroundTask>> start(EventLoop& loop, Work work, Done done);
    BackgroundTask(const BackgroundTask&) = delete;
    BackgroundTask& operator=(const BackgroundTask&) = delete;
    // Cancels, and waits a moment for the thread: work looks at `canceled` every few milliseconds
    // and tidies up. One that is stuck in a disk that hangs is left to itself.
    ~BackgroundTask();

    // Asks the work to end early; done() still comes, with what the work then returned.
    void cancel();

private:
    struct Shared; // with the thread, which may outlive us
    explicit BackgroundTask(Done done);
    void on_finished();

    Done done_;
    std::shared_ptr<Shared> shared_;
    EventSource source_;
    std::thread thread_;
};

} // namespace thaw
