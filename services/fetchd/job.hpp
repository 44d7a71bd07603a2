// SPDX-License-Identifier: MIT
#pragma once

// One request from its start to its one answer: tries, the pauses between them, and the times after
// which a try or the whole request is over. What a try does is a subclass's.

#include "config.hpp"
#include "credentials.hpp"
#include "event/worker.hpp"
#include "target_writer.hpp"
#include "transfers.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <vector>

namespace thaw::fetchd {

// What all jobs work with; outlives them.
struct Engine {
    EventLoop& loop;
    const Config& config;
    const Credentials& credentials;
    Transfers& transfers;
    Mailbox& mailbox;
    std::vector<std::unique_ptr<Worker>> writers{}; // threads for TargetWriter, shared by all jobs
    std::minstd_rand chance{std::random_device{}()};

    Worker& writer_for(std::uint64_t id) { return *writers[id % writers.size()]; }
};

class Job {
public:
    struct Report {
        std::function<void(std::uint64_t landed)> progress;
        // Done or Failed, once. The job stays until the loop turns again.
        std::function<void(protocol::FetchMessage)> ended;
    };
    Job(Engine& engine, protocol::FetchMessage request, Report report);
    virtual ~Job() = default;
    Job(const Job&) = delete;
    Job& operator=(const Job&) = delete;

    void start();
    // The answer still comes: once no write is under way any more.
    void cancel();

protected:
    // Starts a try; its end comes by try_failed() or succeeded(), never from inside.
    virtual Outcome<> begin() = 0;
    // Ends the try at hand; nothing of it is heard of any more.
    virtual void abort() = 0;
    // Nothing of ours is about to be written.
    virtual bool is_quiet() const { return true; }
    // The source is the one we wait for, and not the other way round.
    virtual bool waits_for_source() const { return true; }
    virtual std::uint64_t landed() const { return 0; }
    // How long all tries together may take.
    virtual Microseconds time_limit() const { return engine_.config.total_timeout; }

    void try_failed(Failure failure);
    void succeeded(SourceIdentity identity = {});
    // Nothing can be done about it.
    void give_up(Failure failure);
    // The source has moved.
    void touch() { touched_ = now_monotonic(); }
    // is_quiet() may have become true.
    void settle();
    const protocol::FetchMessage& request() const { return request_; }
    bool is_over() const { return end_.has_value(); }

    Engine& engine_;
    protocol::FetchMessage request_;

private:
    void try_once();
    void on_stall_check();
    void finish(protocol::FetchMessage end);
    void log_failure(const Failure& failure) const;

    Report report_;
    std::optional<protocol::FetchMessage> end_;
    bool reported_ = false;
    std::uint32_t tries_ = 0;
    Microseconds touched_ = 0;
    Failure last_;
    EventSource total_;
    EventSource stall_;
    EventSource retry_;
};

// The job that a request of this type (and with or without a source) wants. Nothing for messages
// that are none.
std::unique_ptr<Job> make_job(Engine& engine, protocol::FetchMessage request, Job::Report report);

} // namespace thaw::fetchd
