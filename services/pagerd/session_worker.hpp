// SPDX-License-Identifier: MIT
#pragma once

// The worker of one session over time: starts it, hands it the descriptors, moves it to the
// workers' unit, replaces it when it died or is stuck, takes over one that outlived a broker. Never
// are there two at once: a successor starts when the pidfd of its predecessor says it is dead.

#include "broker.hpp"
#include "core/pidfd.hpp"
#include "log/log.hpp"
#include "policy.hpp"
#include "protocol/session_memory.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace thaw::pagerd {

class SessionWorker {
public:
    // Borrowed from the session, which outlives us.
    struct Resources {
        std::string id; // of the session, hex
        const protocol::SessionMemory* memory = nullptr;
        int uffd = -1;
        int vmm = -1;
        const ImageSource* image = nullptr; // may be nullptr until an old worker brings it
        int working_set = -1;               // -1: none
        LogFields fields;
    };
    // From the event loop, except lost() and settled(), which may come from inside adopt().
    struct Events {
        std::function<void()> serving;  // a worker says Ready
        std::function<void()> complete; // every page is in
        std::function<void(const protocol::AttendedMessage&)> attended;
        std::function<void(const protocol::WantChunkMessage&)> want_chunk;
        std::function<void(const protocol::ReplayEndedMessage&)> replay_ended;
        std::function<void(const protocol::FailedMessage&)> page_lost; // a page cannot be served
        std::function<void(Error)> lost; // WorkerLost: there is none and none will be started
        std::function<void()> settled;   // what an earlier broker left is sorted out
    };

    SessionWorker(Broker& broker, Resources resources, Events events);

    // The session's first: Start follows once systemd has the session's descriptors.
    void start_first();
    // After a restart of the broker. `pidfd` is the stored one and may be invalid.
    void adopt(Fd pidfd);
    // A worker dialed in for this session. EBUSY when it is not ours.
    Result<> accept(Fd channel, Peer peer);
    void set_image(const ImageSource* image) { resources_.image = image; }
    // The session's control fields have changed. One that is not there reads them when it starts.
    void attend();
    // Best effort: a worker that did not hear it asks again.
    void tell(const protocol::EncodedMessage& message);
    // Looks for a stuck worker.
    void check(Microseconds now);
    // The VMM is dead: nothing is replaced any more, the worker goes to broker.ending.
    void finish();

    pid_t pid() const { return process_ ? process_->pid() : 0; }
    std::size_t restarts() const { return budget_.total(); }
    bool is_alive() const { return process_ != nullptr; }

private:
    std::unique_ptr<WorkerProcess> find_survivor(Fd pidfd);
    void replace();
    Result<> launch();
    Result<> send_start();
    void attach_to_unit();
    void on_attached(Result<> result);
    WorkerProcess::Events process_events();
    void take(std::unique_ptr<WorkerProcess> process);
    void store_pidfd();
    void on_exit(const std::string& how);
    void on_message(protocol::ControlMessage message);
    void count_loss(const std::string& how);
    void settle();
    void give_up(const std::string& why);

    Broker& broker_;
    Resources resources_;
    Events events_;
    RestartBudget budget_;
    std::unique_ptr<WorkerProcess> process_;
    std::optional<StuckDetector> detector_;
    bool stored_ = false;
    bool finished_ = false;
    bool adopting_ = false;
    unsigned attach_attempts_ = 0;
    std::unique_ptr<NotifyBarrier> barrier_;
    SystemdHandle attaching_;
    EventSource attach_retry_;
    EventSource replace_timer_;
    EventSource adoption_deadline_;
};

} // namespace thaw::pagerd
