// SPDX-License-Identifier: MIT
#pragma once

// One VM on the books: /org/thaw/restore1/instance/NAME. Keeps its record on disk and watches its
// unit and its pager session; what the news mean, the manager decides (or the job at work).

#include "context.hpp"
#include "log/log.hpp"
#include "rootfs_query.hpp"
#include "teardown.hpp"
#include "vmm_requests.hpp"

#include <systemd/sd-bus-vtable.h>

#include <memory>
#include <string>
#include <vector>

namespace thaw::restore {

class Instance {
public:
    Instance(const Context& context, Record record);
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;

    const Record& record() const { return record_; }
    const std::string& name() const { return record_.name; }
    const std::string& path() const { return path_; }
    const std::string& unit() const { return unit_; }
    InstanceState state() const { return record_.state; }
    bool has_job() const { return record_.job.has_value(); }
    bool is_recording() const { return record_.type == InstanceType::Recording; }
    bool is_live() const {
        return state() == InstanceState::Running || state() == InstanceState::Paused;
    }

    // The only writer of the state; illegal transitions end the process.
    void set_state(InstanceState state);
    void set_backend(Backend backend, std::string_view reason);
    void set_session(const std::string& path);
    void set_written(std::vector<std::string> paths);
    void set_paused_for(const std::string& volume);
    void set_started(std::uint64_t realtime);
    // What a job holds and has made goes to disk before it is done. The Error is the disk's.
    Result<> set_made(const Made& made);
    void set_job(const std::optional<JobRecord>& job);
    Result<> save() const;

    // From now on the manager hears of the unit, the session, the server of the root file system
    // and its block device.
    void watch_unit();
    void watch_session();
    void watch_rootfs();
    void watch_rootfs_device();
    void stop_watching();

    // Takes away what a VM that has ended leaves; `done` may destroy the instance.
    void clean_up(std::function<void()> done);
    bool is_cleaning() const { return cleanup_ != nullptr; }
    // The VMM is being told to pause or resume.
    bool is_changing() const { return request_ != nullptr; }

    // The VMM is told; the handler hears how it went.
    void change_vm_state(VmState state, std::function<void(Result<>)> handler);

    LogFields log_fields() const;
    static const sd_bus_vtable* vtable();

private:
    Result<> method_stop(BusMessage message);
    Result<> method_pause(BusMessage message);
    Result<> method_resume(BusMessage message);
    // ---- instance_rootfs.cpp
    Result<> method_get_rootfs(BusMessage message);
    void answer_rootfs(const Result<protocol::RootfsStatus>& status);
    // ----
    Result<> append_owner(BusMessage& reply) const;
    Result<> append_job_id(BusMessage& reply) const;
    Result<> append_session(BusMessage& reply) const;
    Result<> append_started(BusMessage& reply) const;
    template <auto Text>
    Result<> append_text(BusMessage& reply) const;
    std::string image_word() const { return record_.image; }
    std::string state_word() const { return std::string(kInstanceStateNames.name(state())); }
    std::string type_word() const { return std::string(kInstanceTypeNames.name(record_.type)); }
    std::string backend_word() const;
    void changed(std::vector<std::string> properties);
    void keep() const;

    const Context& context_;
    Record record_;
    std::string path_;
    std::string unit_;
    SystemdHandle unit_watch_;
    PagerHandle session_watch_;
    SystemdHandle rootfs_watch_;
    SystemdHandle device_watch_;
    std::vector<BusMessage> rootfs_callers_; // of GetRootfs()
    std::unique_ptr<RootfsQuery> rootfs_query_;
    std::unique_ptr<Teardown> cleanup_;
    HttpHandle request_;
};

} // namespace thaw::restore
