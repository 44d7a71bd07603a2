// SPDX-License-Identifier: MIT
#pragma once

// A fake org.thaw.restore1 for tests of the client: no VM, no image, only the answers. What a job
// does is in the VM's name:
//   good      done after a moment          bad       failed with LoadFailed
//   slow      runs until it is canceled     instant   JobRemoved comes before the reply
//   hang      ends with result timeout      denied    AccessDenied
//   lost      the manager restarts and reports the job as failed without any signal

#include "bus/bus.hpp"
#include "bus/message.hpp"
#include "event/event.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace thaw::ctl::testing {

struct FakeJob {
    std::uint32_t id = 0;
    std::string instance;
    std::string kind;
    std::string state = "queued";
    std::string error_name;
    std::string error_message;
    mutable unsigned silent = 0; // so many readings get no answer

    Result<> append_id(BusMessage& reply) const { return reply.append("u", id); }
    template <std::string FakeJob::* Member>
    Result<> append_text(BusMessage& reply) const {
        return reply.append("s", (this->*Member).c_str());
    }
    Result<> append_stage(BusMessage& reply) const {
        if (silent > 0) {
            --silent;
            return fail_named("org.freedesktop.DBus.Error.NoReply", ETIMEDOUT, "scripted");
        }
        return reply.append("s", "loading memory");
    }
    Result<> append_backend(BusMessage& reply) const { return reply.append("s", "uffd"); }
    Result<> append_reason(BusMessage& reply) const { return reply.append("s", "asked for"); }
    Result<> append_result(BusMessage& reply) const {
        return reply.append("s", state == "queued" ? "" : state.c_str());
    }
    Result<> append_progress(BusMessage& reply) const { return reply.append("d", 0.5); }
};

struct FakeInstance {
    std::string name;
    std::string image;
    std::string unit;
    std::string state;

    template <std::string FakeInstance::* Member>
    Result<> append_text(BusMessage& reply) const {
        return reply.append("s", (this->*Member).c_str());
    }
    Result<> append_session(BusMessage& reply) const { return reply.append("o", "/"); }
    Result<> append_started(BusMessage& reply) const {
        return reply.append("t", std::uint64_t{1700000000000000});
    }
    Result<> method_pause(BusMessage message);
    Result<> method_resume(BusMessage message);
};

class FakeRestore {
public:
    // Takes the name on `bus`, which must be attached to `loop`.
    FakeRestore(Bus& bus, EventLoop& loop);
    FakeRestore(const FakeRestore&) = delete;
    FakeRestore& operator=(const FakeRestore&) = delete;

    std::map<std::string, FakeInstance> instances;
    std::map<std::uint32_t, FakeJob> jobs;
    unsigned silent = 0;            // of the next job: so many readings get no answer
    std::vector<std::string> calls; // "RestoreInstance web base MemoryBackend=uffd ..."

    Result<> method_restore(BusMessage message);
    Result<> method_stop(BusMessage message);
    Result<> method_cancel(BusMessage message);
    Result<> method_get_instance(BusMessage message);
    Result<> method_list_instances(BusMessage message);
    Result<> method_list_jobs(BusMessage message);
    Result<> method_set_policy(BusMessage message);
    Result<> append_version(BusMessage& reply) const { return reply.append("s", "0.0-fake"); }
    Result<> append_backend(BusMessage& reply) const { return reply.append("s", "auto"); }
    Result<> append_prefetch(BusMessage& reply) const { return reply.append("b", 1); }
    Result<> append_jobs(BusMessage& reply) const;

private:
    void run_job(std::uint32_t id);
    void end_job(std::uint32_t id, const char* state, const char* error, const char* text);
    void restart();
    std::string job_path(std::uint32_t id) const;

    Bus& bus_;
    EventLoop& loop_;
    std::uint32_t next_id_ = 7;
    std::vector<BusSlot> slots_;
    BusSlot name_;
    std::vector<EventSource> timers_;
};

} // namespace thaw::ctl::testing
