// SPDX-License-Identifier: MIT
#pragma once

// Starts a job of the restore manager and waits for its end, with progress and Ctrl-C.

#include "client.hpp"
#include "event/event.hpp"
#include "progress_bar.hpp"

#include <functional>
#include <string>

namespace thaw::ctl {

struct JobOutcome {
    std::uint32_t id = 0;
    std::string path;
    std::string instance;
    std::string result; // done, failed, canceled, timeout
    std::string error_name;
    std::string error_message;
    Properties properties; // of the Job object at its end; empty when it is gone
    Microseconds elapsed = 0;
};

// One wait. Signals are matched before the call is sent, so that no end is missed; what the Job
// object says is read as well, because signals may be lost with a restarting manager.
class JobWait {
public:
    explicit JobWait(Client& client) : client_(client) {}
    JobWait(const JobWait&) = delete;
    JobWait& operator=(const JobWait&) = delete;

    // `call` is RestoreInstance or StopInstance; verb is for the progress line ("Restoring web").
    Result<JobOutcome> run(const BusMessage& call, std::string label);

private:
    Result<> prepare(EventLoop& loop);
    Result<> start(const BusMessage& call);
    void on_job_removed(BusMessage& message);
    void on_owner(bool owned);
    // Reads the Job object; ends the wait when it is finished already.
    void refresh();
    void on_interrupt();
    void finish();

    Client& client_;
    EventLoop* loop_ = nullptr;
    std::string label_;
    JobOutcome outcome_;
    ProgressBar bar_;
    bool finished_ = false;
    bool canceling_ = false;
    bool owner_lost_ = false;
    std::optional<Error> failure_;
    // Last, so that they go first: their callbacks use what is above.
    BusSlot removed_;
    BusSlot changed_;
    BusSlot owner_;
    BusSlot cancel_;
    EventSource tick_;
    EventSource interrupt_;
    EventSource terminate_;
};

} // namespace thaw::ctl
