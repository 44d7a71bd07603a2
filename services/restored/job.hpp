// SPDX-License-Identifier: MIT
#pragma once

// One job on the bus: /org/thaw/restore1/job/_ID. The state machine and its publication; what is
// done in each state is the subclass's. Owned by the manager, which keeps a finished job readable
// for a while. State changes have one writer, set_state().

#include "context.hpp"
#include "failure.hpp"
#include "log/log.hpp"
#include "restore_plan.hpp"

#include <systemd/sd-bus-vtable.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace thaw::restore {

// The id in a job's object path; 0, which no job has, when it is no such path.
std::uint32_t job_id_of_path(std::string_view path);

class Job {
public:
    Job(const Context& context, const JobRecord& record, std::string instance, std::string image);
    virtual ~Job() = default;
    Job(const Job&) = delete;
    Job& operator=(const Job&) = delete;

    // Begins the work; called once, by the manager's queue.
    virtual void start() = 0;
    // Asks for an end; JobNotCancelable when it is too late.
    virtual Result<> cancel() = 0;
    // News of the instance it works on.
    virtual void on_unit(const UnitState&) {}
    virtual void on_session(const PagerSession&) {}
    virtual void on_share_lost(const LostShare&) {}
    virtual void on_rootfs_lost(const std::string& /*why*/) {}

    std::uint32_t id() const { return record_.id; }
    const std::string& path() const { return path_; }
    const JobRecord& record() const { return record_; }
    JobKind kind() const { return record_.kind; }
    JobState state() const { return record_.state; }
    const std::string& instance() const { return instance_; }
    const std::string& image() const { return image_; }
    double progress() const { return progress_; }
    const std::string& error_name() const { return error_name_; }
    const std::string& error_message() const { return error_message_; }
    std::string_view result() const;
    // Called once, from the event loop, when the job has ended; from inside finish().
    void on_end(std::function<void()> handler) { ended_ = std::move(handler); }

    static const sd_bus_vtable* vtable();

protected:
    const Context& context() const { return context_; }
    void set_state(JobState state);
    void set_stage(std::string_view stage);
    void set_backend(Backend backend, std::string_view reason);
    void set_progress(double progress) { progress_ = progress; }
    // What came of it, for people.
    void set_outcome(std::string outcome) { outcome_ = std::move(outcome); }
    // Why it had to be, for a job that is the answer to a failure; it stays when the job is done.
    void set_cause(const Failure& cause);
    // The last thing a job does: final state, error if any, and the manager is told.
    void finish(JobState state, const Failure* failure = nullptr);
    LogFields log_fields() const;

private:
    Result<> method_cancel(BusMessage message);
    Result<> append_id(BusMessage& reply) const { return reply.append("u", record_.id); }
    Result<> append_uid(BusMessage& reply) const;
    Result<> append_started(BusMessage& reply) const { return reply.append("t", record_.started); }
    Result<> append_progress(BusMessage& reply) const { return reply.append("d", progress_); }
    template <auto Text>
    Result<> append_text(BusMessage& reply) const;
    std::string kind_word() const { return std::string(kJobKindNames.name(record_.kind)); }
    std::string state_word() const { return std::string(kJobStateNames.name(record_.state)); }
    std::string result_word() const { return std::string(result()); }
    void changed(std::vector<std::string> properties);

    const Context& context_;
    JobRecord record_;
    std::string path_;
    std::string instance_;
    std::string image_;
    std::string stage_;
    std::string backend_;
    std::string backend_reason_;
    std::string error_name_;
    std::string error_message_;
    std::string outcome_;
    double progress_ = 0;
    std::function<void()> ended_;
};

// The answer to a request whose instance lives already: done at once.
class FinishedJob : public Job {
public:
    using Job::Job;
    void start() override;
    Result<> cancel() override;
};

} // namespace thaw::restore
